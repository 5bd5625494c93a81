# shellcheck shell=bash
# Our side of the comparison, sourced by run. Whatever the program's command for measuring is called is known here only.
# shellcheck disable=SC2034 # FRAMES and MPPS are read by turn

GATEWAY_MAC=02:50:56:56:44:52
CLIENT_MAC=02:00:00:00:00:18
CLIENT_IP=10.244.0.18

# Builds what is measured, unless TIERLAB names a program that is there.
ours_build() {
    if [ -n "${TIERLAB:-}" ]; then
        [ -x "$TIERLAB" ] || die "TIERLAB=$TIERLAB is no program"
        return
    fi
    command -v cargo >/dev/null || die "cargo is missing: install Rust, or set TIERLAB to a built program"
    say "building tierlab (release)"
    cargo build --release --quiet --manifest-path "$TOP/Cargo.toml" --package tierlab >&2
    TIERLAB=${CARGO_TARGET_DIR:-$TOP/target}/release/tierlab
    [ -x "$TIERLAB" ] || die "$TIERLAB was not built"
}

# The version, and the commit with a + if files have been changed since.
ours_version() {
    local commit
    commit=$(git -C "$TOP" describe --always --dirty=+ --exclude '*' 2>/dev/null || echo "no commit")
    echo "$("$TIERLAB" --version) ($commit)"
}

# ours_rate WORK FLOWS WORKERS: sets MPPS of established bidirectional flows, 64-octet frames copied in and out, and adds to FRAMES
# those that were checked while it was measured.
ours_rate() {
    local cores=$CORE build checked
    [ "$3" = 1 ] || cores=0-$(($3 - 1))
    taskset -c "$cores" "$TIERLAB" bench "$1" -f "$HERE/lab.yaml" --state "$TMP/state" --flows "$2" --workers "$3" --size 64 \
        --duration "$SECONDS_EACH" -o json >"$TMP/ours.json"
    python3 "$HERE/report.py" rate "$TMP/ours.json" "$1" >"$TMP/ours.rate"
    read -r checked MPPS build <"$TMP/ours.rate"
    FRAMES=$((FRAMES + checked))
    [ "$build" = optimized ] || : >"$TMP/unoptimized"
}

# Whether this program can measure itself.
ours_can_measure() { "$TIERLAB" bench --help >/dev/null 2>&1; }

# ours_replay OUT PORT=FILE...: frames through the lab, as `tierlab replay` sends captures; ports without input are unplugged.
ours_replay() {
    local out=$1 port ports=()
    shift
    for port in pod/bench/client pod/bench/member-{0..3} host/leaf-{1,2}; do
        local file=$TMP/empty.pcap given
        for given in "$@"; do [ "${given%%=*}" != "$port" ] || file=${given#*=}; done
        ports+=(--in "$port=$file")
    done
    "$TIERLAB" replay -f "$HERE/lab.yaml" --state "$TMP/state" "${ports[@]}" --out "$out" >"$TMP/replay.log"
}

# ours_verify WORK FLOWS: requests go in, replies to what came out go in, and all of it is checked. Sets FRAMES to
# their number.
ours_verify() {
    local work=$1 flows=$2 dir=$TMP/ours-$1 to_mac=$GATEWAY_MAC dst=10.2.0.2 far=() answers=() port
    local -a there=() back=() captured=()
    mkdir -p "$dir"
    case $work in
        chain)
            far=(host/leaf-1 host/leaf-2)
            there=(--hops 2 --src 172.16.2.2 --to-mac '02:00:00:00:65:01,02:00:00:00:66:01'
                --from-mac '02:00:00:00:65:02,02:00:00:00:66:02')
            back=(--hops 2 --to-mac "$CLIENT_MAC" --from-mac "$GATEWAY_MAC")
            ;;
        dlb)
            far=(pod/bench/member-{0..3})
            dst=10.96.0.99
            there=(--hops 1 --members '10.244.0.19,10.244.0.20,10.244.0.21,10.244.0.22' --to-mac any --from-mac "$GATEWAY_MAC")
            back=(--hops 1 --to-mac "$CLIENT_MAC" --from-mac "$GATEWAY_MAC")
            ;;
        l2)
            far=(pod/bench/member-0)
            dst=10.244.0.19
            to_mac=$("$TIERLAB" get pods -f "$HERE/lab.yaml" --state "$TMP/state" -o csv | awk -F, '$2 == "member-0" { print $4 }')
            ;;
        *) die "no such work: $work" ;;
    esac
    python3 "$HERE/frames.py" requests "$dir/requests.pcap" --flows "$flows" --to-mac "$to_mac" --from-mac "$CLIENT_MAC" \
        --src "$CLIENT_IP" --dst "$dst"
    ours_replay "$dir/1" "pod/bench/client=$dir/requests.pcap"
    for port in "${far[@]}"; do
        python3 "$HERE/frames.py" replies "$dir/${port//\//-}.pcap" "$dir/1/$port.pcap"
        answers+=("$port=$dir/${port//\//-}.pcap")
    done
    ours_replay "$dir/2" "pod/bench/client=$dir/requests.pcap" "${answers[@]}"
    captured=("${far[@]/#/"$dir/2/"}")
    local there_frames back_frames
    there_frames=$(python3 "$HERE/frames.py" check --flows "$flows" --sent "$dir/requests.pcap" \
        --captured "${captured[@]/%/.pcap}" "${there[@]}")
    back_frames=$(python3 "$HERE/frames.py" check --flows "$flows" --sent "${answers[@]#*=}" --client "$dir/requests.pcap" \
        --captured "$dir/2/pod/bench/client.pcap" "${back[@]}")
    FRAMES=$((there_frames + back_frames))
}
