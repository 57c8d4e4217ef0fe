# Puts back what "starlingctl pam enable @SERVICE@" found. It is run by @NAME@.service: when nobody confirmed in
# time (its timer), and at every boot before sshd while nobody has; and by "starlingctl pam disable", with the word now.
# It must work without pam-starling and its daemon, and on a full disk: nothing here but /bin/sh, cp, mv and systemctl,
# and renames wherever they will do. What is out of use is moved away; starlingctl, or purging, removes it later.

PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
undo="@UNDO@/@SERVICE@"
units="@UNITS@"

# A file comes back whole or not at all, by a rename. What was there meanwhile is kept, if there is room for it.
put_back() {
    beside="${2%/*}/.${2##*/}.pam-starling"
    kept="$undo.replaced-$1"
    if [ -e "$undo/before/$1.absent" ]; then
        if [ -e "$2" ] || [ -L "$2" ]; then
            mv -f "$2" "$kept.part" && mv -f "$kept.part" "$kept" || mv -f "$2" "$beside-gone"
        fi
        return
    fi
    if [ -e "$2" ] && [ ! -e "$kept" ]; then
        cp -a "$2" "$kept.part" && mv -f "$kept.part" "$kept"
    fi
    if [ -e "$beside-before" ]; then
        # The copy beside it was on the disk before anything was changed: this needs no space, and nothing to be synced.
        mv -f "$beside-before" "$2"
    elif [ -e "$undo/before/$1" ]; then
        cp -a "$undo/before/$1" "$beside-undo" && mv -f "$beside-undo" "$2"
    else
        echo "there is no copy of $2 in $undo/before" >&2
        return 1
    fi
}

if [ -e "$undo/pending" ] || { [ "$1" = now ] && [ -e "$undo/state.json" ]; }; then
    put_back pam "@PAM_FILE@" || exit 1
    if [ -e "$undo/written/sshd" ]; then
        put_back sshd "@SNIPPET@" || exit 1
        # Without waiting: at boot ssh waits for this very script.
        systemctl --no-block try-reload-or-restart ssh.service
    fi
    # From here on a second run has nothing to do, whatever fails below.
    mv -fT "$undo" "$undo.gone" || mv -f "$undo/pending" "$undo/not-pending"
    if [ "$1" != now ]; then
        # In a shell of its own, which is all that ends where this cannot be written.
        ( : > "$undo.put-back" )
        echo "@SERVICE@ is as it was before: starlingctl pam enable was not confirmed"
    fi
    systemctl --no-block stop @NAME@.timer
    for left in "$units/@NAME@.service" "$units/multi-user.target.wants/@NAME@.service" \
        "$units/@NAME@.timer" "$units/timers.target.wants/@NAME@.timer" "@STAMPS@/stamp-@NAME@.timer"; do
        if [ -e "$left" ] || [ -L "$left" ]; then
            mv -f "$left" "$undo.gone/"
        fi
    done
    systemctl daemon-reload
fi
exit 0
