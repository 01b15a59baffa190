#!/usr/bin/env bash
# Three machines to practise on, within this one: what docs/OPERATING.md does with three nodes can be tried there.
#
#     deploy/three_machines.sh up FOLDER      # those that are not there; FOLDER/venv is where the wheel was installed
#     deploy/three_machines.sh on FOLDER two [COMMAND...]      # a shell on the second, or one command
#     deploy/three_machines.sh kill FOLDER two                 # as if its power was cut
#     deploy/three_machines.sh down FOLDER
#
# A machine has a network (10.78.0.11 to 13, and this machine is 10.78.0.1), processes and a /tmp/ray of its own, and
# FOLDER/<name> as its home. It has no way to the Internet, and no DNS. Linux only; needs root, iproute2 and util-linux.
set -euo pipefail

NAMES=(one two three)
[ $# -ge 2 ] || { sed -n '2,/^set/{s/^# \{0,1\}//;/^set/d;p}' "$0" >&2; exit 2; }
what=$1 folder=$(realpath "$2")
tag=pi$(printf %s "$folder" | cksum | cut -c1-6) # names of interfaces are short
net=${THREE_MACHINES_NET:-10.78.0}

make_machine() { # name, number
    local home=$folder/$1 pid
    mkdir -p "$home/parallel-interview"
    ln -sfn "$folder/venv" "$home/parallel-interview/venv"
    [ ! -d "$folder/bundle" ] || [ -d "$home/parallel-interview/bundle" ] || cp -a "$folder/bundle" "$home/parallel-interview/"
    # The first process of a machine adopts what others leave, and waits; when it is killed, all on the machine end.
    unshare --net --mount --pid --uts --ipc --fork --kill-child --mount-proc bash -c '
        mkdir -p /tmp/ray; mount -t tmpfs tmpfs /tmp/ray; mount --bind /dev/null /etc/resolv.conf; ip link set lo up; hostname "$0"; trap : TERM
        while :; do sleep 3600 & wait; done' "$1" < /dev/null &> /dev/null &
    echo $! > "$home/machine.pid"
    until pid=$(first_process "$1") && [ "$(nsenter -t "$pid" -u hostname)" = "$1" ]; do sleep 0.05; done
    ip link add "$tag-$2" type veth peer name eth0 netns "$pid"
    ip link set "$tag-$2" master "$tag" up
    inside "$1" ip addr add "$net.1$2/24" dev eth0
    inside "$1" ip link set eth0 up
    inside "$1" ip route add default via "$net.1"
}

first_process() { pgrep -P "$(cat "$folder/$1/machine.pid")"; }

inside() { # name, command...
    local name=$1 pid
    shift
    pid=$(first_process "$name") || { echo "$name is not running" >&2; return 1; }
    # -a: also its processes, its /tmp/ray and its name
    (cd / && exec nsenter -t "$pid" -n -m -p -u -i --wd="$folder/$name" env -i HOME="$folder/$name" \
        PATH="$folder/$name/parallel-interview/venv/bin:$PATH" LC_ALL=C.UTF-8 TERM="${TERM:-dumb}" USER=root "$@")
}

case $what in
up)
    [ -x "$folder/venv/bin/parallel-interview" ] || { echo "$folder/venv has no parallel-interview" >&2; exit 1; }
    if ! ip link show "$tag" &> /dev/null; then
        ip link add "$tag" type bridge
        ip addr add "$net.1/24" dev "$tag"
        ip link set "$tag" up
    fi
    for number in 1 2 3; do
        name=${NAMES[number - 1]}
        first_process "$name" &> /dev/null || make_machine "$name" "$number"
    done
    ;;
on)
    name=${3:?which machine}
    shift 3
    if [ $# = 0 ]; then set -- bash; fi
    inside "$name" "$@"
    ;;
kill)
    kill -9 "$(first_process "${3:?which machine}")"
    ;;
down)
    for name in "${NAMES[@]}"; do
        if pid=$(first_process "$name" 2> /dev/null); then kill -9 "$pid"; fi
    done
    for number in 1 2 3; do ip link del "$tag-$number" 2> /dev/null || true; done # a dying connection keeps it a while
    ip link del "$tag" 2> /dev/null || true
    ;;
*)
    echo "up, on, kill or down" >&2
    exit 2
    ;;
esac
