"""starlingctl pam: puts the second factor into sshd or login, and back out, without a risk to lock anybody out."""
