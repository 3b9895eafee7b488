#!/bin/bash
# The real unit under a real systemd: benchd@night.service with simulated servers, in a Debian tree that is booted in
# namespaces of its own. Nothing of this machine's own systemd is touched.
#
#   tests/systemd/run.sh [BENCHD] [WORK]      as root; BENCHD: target/debug/benchd, WORK: /tmp/benchd-systemd
#
# Needs debootstrap (the tree is made once and kept in WORK), util-linux, and a cgroup v2 mount that root may write to.
# Takes about eight minutes. Ends with 0 if everything was as it must be.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
benchd=$(realpath "${1:-$repository/target/debug/benchd}")
work=${2:-/tmp/benchd-systemd}
root=$work/root
[ "$(id -u)" = 0 ] || { echo "run it as root"; exit 2; }
cgroup_root=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
[ -n "$cgroup_root" ] || { echo "no cgroup v2 is mounted"; exit 2; }
cgroup=$cgroup_root/benchd-systemd-$$
mkdir -p "$work"

if [ ! -x "$root/lib/systemd/systemd" ]; then
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,procps bookworm "$root" > "$work/debootstrap.log"
fi
rm -rf "$root/opt/benchd" "$root"/etc/systemd/system/benchd@* "$root"/etc/systemd/system/*/benchd@* "$root/var/log/journal"
: > "$root/etc/machine-id"
mkdir -p "$root/opt/benchd/plans" "$root/opt/benchd/docs" "$root/var/log/journal"
install -m 755 "$benchd" "$root/usr/local/bin/benchd"
cp "$repository/docs/systemd.md" "$root/opt/benchd/docs/"
cp "$repository/systemd/benchd@.service" "$repository/systemd/benchd@.timer" "$root/etc/systemd/system/"
cat > "$root/opt/benchd/plans/night.yaml" <<'PLAN'
version: 1
name: night
host: { gpu: none }
request: { timeout: 20s, warmup: 1 }
models: { sim: { openai: sim } }
frameworks:
  one: { kind: openai, port: 30001, start_timeout: 30s, stop_grace: 5s, command: [benchd, sim, --host, "{host}", --port, "{port}", --model, "{model}", --prefill-rate, "20000", --decode-rate, "50"] }
  two: { kind: openai, port: 30002, start_timeout: 30s, stop_grace: 5s, command: [benchd, sim, --host, "{host}", --port, "{port}", --model, "{model}", --prefill-rate, "20000", --decode-rate, "50", --fault, "child-hidden:stubborn"] }
  three: { kind: openai, port: 30003, start_timeout: 30s, stop_grace: 5s, command: [benchd, sim, --host, "{host}", --port, "{port}", --model, "{model}", --prefill-rate, "20000", --decode-rate, "50"] }
scenarios: { single: { input_tokens: [32, 64, 128], output_tokens: 20, repeats: 12, prompts: identical } }
PLAN
# The client's own check takes a quarter of a minute a start, and is tested elsewhere.
mkdir -p "$root/etc/systemd/system/benchd@.service.d"
printf '[Service]\nExecStart=\nExecStart=/usr/local/bin/benchd run plans/%%i.yaml --resume=unfinished --no-selfcheck\n' \
    > "$root/etc/systemd/system/benchd@.service.d/test.conf"

unit=benchd@night.service
failed=0
say() { printf '%s  %s\n' "$(date +%T)" "$*"; }
holds() { # holds WHAT CONDITION…
    local what=$1
    shift
    if "$@"; then say "ok      $what"; else say "FAILED  $what"; failed=1; fi
}
until_true() { # until_true SECONDS WHAT CONDITION…
    local end=$(($(date +%s) + $1)) what=$2
    shift 2
    until "$@"; do
        [ "$(date +%s)" -lt "$end" ] || { say "FAILED  waited in vain: $what"; failed=1; return 0; }
        sleep 0.2
    done
    say "ok      $what"
}
boot() {
    cat /proc/sys/kernel/random/uuid > "$work/boot_id"
    "$here/boot.sh" "$root" "$work/boot_id" "$cgroup" > "$work/boot.log" 2>&1 &
    booted=$!
    local child
    for _ in $(seq 100); do
        child=$(pgrep -P "$booted" || true)
        [ -n "$child" ] && [ "$(cat "/proc/$child/comm" 2>/dev/null)" = systemd ] && break
        sleep 0.1
    done
    init=$child
    [ -n "$init" ] || { cat "$work/boot.log"; exit 1; }
    for _ in $(seq 300); do
        case $(inside systemctl is-system-running 2>/dev/null) in running | degraded) return ;; esac
        sleep 0.2
    done
    echo "systemd did not come up"
    exit 1
}
inside() { nsenter -t "$init" -m -p -u -i -n -C -r -w env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_PAGER= "$@"; }
property() { inside systemctl show "$unit" -p "$1" --value; }
is() { [ "$(property "$1")" = "$2" ]; }
pid() { property MainPID; }
runs() { find "$root/opt/benchd/results" -mindepth 1 -maxdepth 1 -type d 2>/dev/null | wc -l; }
journal() { cat "$root"/opt/benchd/results/2*/journal.jsonl 2>/dev/null; }
events() { journal | grep -c "\"event\":{\"$1\"" || true; }
at_least() { [ "$(events "$1")" -ge "$2" ]; }
said() { inside systemctl status "$unit" --no-pager 2>/dev/null | grep -q "$1"; }
servers() { inside pgrep -c -f 'benchd sim' || true; }
no_servers() { [ "$(servers)" = 0 ]; }
gone() { ! kill -0 "$1" 2>/dev/null; }
ended() { # the last end of a run: OUTCOME EXIT_CODE (systemd forgets a unit that is inactive and not failed)
    journal | grep '"run_ended"' | tail -1 | grep -q "\"outcome\":\"$1\",\"exit_code\":$2,"
}
finish() {
    status=$?
    if [ -n "${init:-}" ]; then kill -KILL "$init" 2>/dev/null || true; wait "$booted" 2>/dev/null || true; fi
    rmdir "$cgroup"/*/* "$cgroup"/* "$cgroup" 2>/dev/null || true
    exit "$status"
}
trap finish EXIT

say "boot"
boot
say "$(inside systemctl --version | head -1), cgroup v2: $(inside stat -fc %T /sys/fs/cgroup)"
holds "the units are valid" inside systemd-analyze verify --man=no "/etc/systemd/system/benchd@.service" "/etc/systemd/system/benchd@.timer"

say "start"
began=$(date +%s.%N)
inside systemctl start "$unit"
say "READY after $(echo "$(date +%s.%N) - $began" | bc 2>/dev/null || echo '?') s"
holds "it is active once it is ready" is ActiveState active
until_true 60 "the status tells lane, cell, progress and end" said 'Status: "lane 1 of 3.*cell .* of 3.*until '
inside systemctl status "$unit" --no-pager -n 4 | sed 's/^/    | /'
until_true 60 "a cell is measured" at_least cell_ended 1
group=$(property ControlGroup)
holds "the server is in a cgroup of its own beside benchd's" inside sh -c "ls -d /sys/fs/cgroup$group/benchd /sys/fs/cgroup$group/server-* >/dev/null 2>&1 || ls -R /sys/fs/cgroup$group | grep -q ."
inside systemd-cgls --no-pager -u "$unit" | sed 's/^/    | /'
holds "journal lines carry the lane and the run" sh -c "nsenter -t $init -m -p -r -w journalctl -u $unit -o json --no-pager | grep BENCHD_LANE | grep -q BENCHD_RUN"
inside journalctl -u "$unit" -o json --no-pager | grep BENCHD_CELL | tail -1 | tr ',' '\n' | grep -E 'BENCHD_|"MESSAGE"|PRIORITY|SYSLOG_IDENTIFIER' | sed 's/^/    | /'

say "kill -9 of benchd"
first=$(pid)
inside kill -9 "$first"
until_true 60 "systemd starts it again by itself" sh -c "p=\$(nsenter -t $init -m -p -r -w systemctl show $unit -p MainPID --value); [ \"\$p\" != 0 ] && [ \"\$p\" != $first ]"
until_true 60 "it is ready again" is ActiveState active
holds "restarts: 1" is NRestarts 1
before=$(events cell_ended)
until_true 60 "and measures on" at_least cell_ended $((before + 1))
holds "still one run folder" test "$(runs)" = 1

say "systemctl stop"
began=$(date +%s%N)
inside systemctl stop "$unit"
say "stopped after $((($(date +%s%N) - began) / 1000000)) ms"
holds "a stop by a person is no failure" is ActiveState inactive
holds "the run is marked interrupted, exit code 143" ended interrupted 143
holds "no server is left" no_servers

say "systemctl start, then a power cut in the middle of a server with a hidden child"
inside systemctl enable "$unit" 2>/dev/null
inside systemctl start "$unit"
launched() { journal | grep '"server_launched"' | grep -q '"framework":"two"'; }
until_true 90 "the second lane's server runs" launched
sleep 1
ends=$(events run_ended)
kill -KILL "$init"
wait "$booted" 2>/dev/null || true
holds "nobody could write an end" test "$(events run_ended)" = "$ends"
say "boot"
boot
until_true 60 "after the power cut it goes on by itself" is ActiveState active
before=$(events cell_ended)
until_true 60 "and measures" at_least cell_ended $((before + 1))
holds "still one run folder" test "$(runs)" = 1

say "an orderly reboot in mid-run"
inside systemctl reboot 2>/dev/null || true
for _ in $(seq 300); do gone "$init" && break; sleep 0.2; done
wait "$booted" 2>/dev/null || true
holds "there is one end more" test "$(events run_ended)" = $((ends + 1))
holds "the reboot interrupted the run in order" ended interrupted 143
say "boot"
boot
until_true 120 "after the reboot it goes on to its end" is ActiveState inactive
holds "the run is finished, exit code 0" ended finished 0
holds "still one run folder" test "$(runs)" = 1
holds "all 9 cells are measured" test "$(events cell_ended)" = 9
holds "none of them twice" test "$(journal | grep '"cell_ended"' | grep -o '"framework":"[a-z]*"[^}]*},"cell":"[^"]*"' | sort | uniq -d | wc -l)" = 0
holds "the report is there" test -s "$(ls -d "$root"/opt/benchd/results/*-night* | head -1)/report.md"
inside systemctl disable "$unit" 2>/dev/null

say "a run that hangs: benchd is stopped by SIGSTOP, the watchdog is 6 s"
printf '[Service]\nWatchdogSec=6s\n' > "$root/etc/systemd/system/benchd@.service.d/watchdog.conf"
inside systemctl daemon-reload
inside systemctl start "$unit"
before=$(events cell_ended)
until_true 60 "a second run measures" at_least cell_ended $((before + 1))
first=$(pid)
sleep 8
holds "progress feeds the watchdog" is NRestarts 0
inside kill -STOP "$first"
until_true 90 "the starved watchdog ends it and systemd starts it again" sh -c "p=\$(nsenter -t $init -m -p -r -w systemctl show $unit -p MainPID --value); [ \"\$p\" != 0 ] && [ \"\$p\" != $first ]"
until_true 60 "it is ready again" is ActiveState active
holds "it went on with the second run" test "$(runs)" = 2
inside systemctl stop "$unit"

if cc -shared -fPIC -o "$root/opt/benchd/disk.so" "$repository/tests/fixtures/failing_disk.c" -ldl 2>/dev/null; then
    say "a run that hangs: its disk does not answer, all its threads live"
    printf '[Service]\nEnvironment=LD_PRELOAD=/opt/benchd/disk.so DISK_FAILS=/opt/benchd/now DISK_FAILS_AS=hang\n' \
        > "$root/etc/systemd/system/benchd@.service.d/disk.conf"
    inside systemctl daemon-reload
    before=$(events cell_ended)
    inside systemctl start "$unit"
    until_true 60 "the second run goes on" at_least cell_ended $((before + 1))
    first=$(pid)
    touch "$root/opt/benchd/now"
    until_true 60 "it waits for the disk" test -e "$root/opt/benchd/now.stuck"
    until_true 90 "the starved watchdog ends it" sh -c "p=\$(nsenter -t $init -m -p -r -w systemctl show $unit -p MainPID --value); [ \"\$p\" != $first ]"
    rm "$root/opt/benchd/now" "$root/opt/benchd/now.stuck"
    until_true 60 "it is ready again" is ActiveState active
    before=$(events cell_ended)
    until_true 60 "and measures on" at_least cell_ended $((before + 1))
    holds "still with the second run" test "$(runs)" = 2
    inside systemctl stop "$unit"
    rm "$root/etc/systemd/system/benchd@.service.d/disk.conf"
else
    say "SKIPPED no C compiler makes the disk that does not answer"
fi
inside journalctl -u "$unit" --no-pager -o cat | grep -i watchdog | sed 's/^/    | /'
rm "$root/etc/systemd/system/benchd@.service.d/watchdog.conf"

say "the timer"
mkdir -p "$root/etc/systemd/system/benchd@.timer.d"
printf '[Timer]\nOnCalendar=\nOnCalendar=*:*:0/10\n' > "$root/etc/systemd/system/benchd@.timer.d/soon.conf"
inside systemctl daemon-reload
inside systemctl start benchd@night.timer
until_true 60 "the timer starts the run" is ActiveState active
inside systemctl list-timers --no-pager benchd@night.timer | head -2 | sed 's/^/    | /'
inside systemctl stop benchd@night.timer "$unit"
rm -r "$root/etc/systemd/system/benchd@.timer.d"
holds "no server is left" no_servers
holds "and no cgroup of one" sh -c "! ls -d $cgroup/system.slice/system-benchd*/*/* >/dev/null 2>&1"
[ "$failed" = 0 ] && say "all as it must be" || say "something FAILED"
exit "$failed"
