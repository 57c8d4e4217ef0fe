# Puts back what "starlingctl pam enable @SERVICE@" found. It is run by @NAME@.service: when nobody confirmed in
# time (its timer), and at every boot before sshd while nobody has; and by "starlingctl pam disable", with the word now.
# It must work without pam-starling and its daemon: nothing here but /bin/sh, cp, mv, rm and systemctl.

PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
undo="@UNDO@/@SERVICE@"
units="@UNITS@"

# A file comes back whole or not at all: a copy beside it, then a rename. What was there meanwhile is kept.
put_back() {
    new="${2%/*}/.${2##*/}.pam-starling-undo"
    if [ -e "$2" ] && [ ! -e "$undo.replaced-$1" ]; then
        cp -a "$2" "$undo.replaced-$1"
    fi
    if [ -e "$undo/before/$1" ]; then
        cp -a "$undo/before/$1" "$new" && mv -f "$new" "$2"
    elif [ -e "$undo/before/$1.absent" ]; then
        rm -f "$2"
    else
        echo "there is no copy of $2 in $undo/before" >&2
        return 1
    fi
}

if [ -e "$undo/pending" ] || [ "$1" = now ]; then
    put_back pam "@PAM_FILE@" || exit 1
    if [ -e "$undo/written/sshd" ]; then
        put_back sshd "@SNIPPET@" || exit 1
        # Without waiting: at boot ssh waits for this very script.
        systemctl --no-block try-reload-or-restart ssh.service
    fi
    if [ "$1" != now ]; then
        : > "$undo.put-back"
        echo "@SERVICE@ is as it was before: starlingctl pam enable was not confirmed"
    fi
    # From here on a second run has nothing to do.
    rm -f "$undo/pending"
    rm -rf "$undo"
fi

systemctl --no-block stop @NAME@.timer
rm -f "$units/@NAME@.service" "$units/multi-user.target.wants/@NAME@.service" \
    "$units/@NAME@.timer" "$units/timers.target.wants/@NAME@.timer" "@STAMPS@/stamp-@NAME@.timer"
systemctl daemon-reload
exit 0
