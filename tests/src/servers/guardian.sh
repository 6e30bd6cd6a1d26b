# The parent of one server. It takes orders on standard input, says "started PID" and "ended
# STATUS" on standard output, and at the end of input (its owner closed the pipe or died, in
# whatever way) ends the server and removes its folder.
#
# Arguments: the folder, the signals that end the server for good, the server's command.

folder=$1 last_signals=$2
shift 2
server=

# A closed terminal or a dead owner must not end the guardian before it has cleaned up.
trap '' HUP INT TERM PIPE

# The server leads a session of its own, so that everything it leaves behind can be ended with it
# and no Ctrl-C reaches it.
run() {
    trap - HUP TERM PIPE
    setsid "$@" </dev/null >>"$folder/log" 2>&1 &
    echo "$!" >"$folder/pid"
    echo "started $!"
    # Quietly: some shells have a word to say about a killed child.
    wait "$!" 2>/dev/null
    echo "ended $?"
}

end() {
    [ -n "$server" ] || return
    # The owner may have died between its order and the start.
    until [ -s "$folder/pid" ]; do sleep 0.05; done
    pid=$(cat "$folder/pid")
    for signal; do kill -s "$signal" "$pid"; done 2>/dev/null
    wait "$server"
    kill -s KILL -- "-$pid" 2>/dev/null
    rm -f "$folder/pid"
    server=
}

while read -r order signals; do
    case $order in
    start)
        run "$@" &
        server=$!
        ;;
    end)
        # Several signals are one argument each.
        end $signals
        ;;
    esac
done

end $last_signals
# What was killed a moment ago may still be writing its last file.
for _ in 1 2 3 4 5; do
    rm -rf -- "$folder" 2>/dev/null && exit
    sleep 0.2
done
