# shellcheck shell=bash
# Open vSwitch with DPDK's userspace datapath, sourced by run. One PMD thread on $CORE, no huge pages, everything of it in a
# namespace and a directory of its own: a system's Open vSwitch is not touched.
#
# Frames come from pcap devices, which copy each one from memory into a buffer, and go to a capture while the work is checked, to
# nothing while it is timed.
# shellcheck disable=SC2034 # FRAMES and MPPS are read by turn

OVS_DAEMON=/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk
OVS_CLIENT_MAC=02:00:00:00:00:02
OVS_GATEWAY_MAC=02:00:00:00:00:01
# While a port is being made Open vSwitch loses what it would have to ask its tables about: this many frames come first.
OVS_FILLERS=300000
OVS_MEMBERS=(10.2.0.11 10.2.0.12 10.2.0.13 10.2.0.14)
ovs_device=0

ovs_version() { echo "OVS-DPDK $("$OVS_DAEMON" --version | sed -n 's/.*(Open vSwitch) //p')"; }

ovs_ctl() { ovs-appctl --timeout 20 -t "$OVS/vswitchd.ctl" "$@"; }
ovs_db() { ovs-vsctl --timeout 20 --db="unix:$OVS/db.sock" "$@"; }
ovs_datapath() { local command=$1; shift; ovs_ctl "dpctl/$command" "$@" netdev@ovs-netdev; }

# Starts the daemons with one bridge whose ports are p0, the clients' side, and p1.
ovs_start() {
    OVS=$TMP/ovs
    rm -rf "$OVS"
    mkdir -p "$OVS"
    namespace ovs
    export OVS_RUNDIR=$OVS OVS_LOGDIR=$OVS OVS_DBDIR=$OVS OVS_SYSCONFDIR=$OVS
    ovsdb-tool create "$OVS/conf.db" /usr/share/openvswitch/vswitch.ovsschema
    background ip netns exec "$NS-ovs" ovsdb-server "$OVS/conf.db" --remote="punix:$OVS/db.sock" --pidfile="$OVS/ovsdb.pid" \
        --unixctl="$OVS/ovsdb.ctl" --log-file="$OVS/ovsdb.log"
    wait_for "ovsdb-server" test -S "$OVS/db.sock"
    ovs_db --no-wait init
    # A PMD mask names cores, and DPDK's own thread stays off the PMD's.
    ovs_db --no-wait set Open_vSwitch . other_config:dpdk-init=true other_config:dpdk-lcore-mask=0x1 \
        other_config:pmd-cpu-mask="$(printf '0x%x' $((1 << CORE)))" \
        other_config:dpdk-extra="--no-huge --legacy-mem -m 1500 --no-pci --iova-mode=va"
    # DPDK keeps its run-time files here instead of in /var/run.
    background env RUNTIME_DIRECTORY="$OVS" ip netns exec "$NS-ovs" "$OVS_DAEMON" "unix:$OVS/db.sock" \
        --pidfile="$OVS/vswitchd.pid" --unixctl="$OVS/vswitchd.ctl" --log-file="$OVS/vswitchd.log"
    wait_for "ovs-vswitchd" ovs_ctl version
    ovs_db add-br br0 -- set bridge br0 datapath_type=netdev fail-mode=secure
}

# ovs_port NUMBER DEVARGS: (re)makes a port of a pcap device. What the device before it had written is complete then.
ovs_port() {
    local error
    ovs_db --if-exists del-port "p$1"
    ovs_device=$((ovs_device + 1))
    # With a time limit of its own, ovs-vsctl waits until the port is made.
    ovs_db add-port br0 "p$1" -- set Interface "p$1" type=dpdk ofport_request=$(($1 + 1)) \
        "options:dpdk-devargs=\"net_pcap$ovs_device,$2\""
    error=$(ovs_db get Interface "p$1" error)
    [ "$error" = '[]' ] || die "Open vSwitch has no port p$1: $error"
}

# What both ports have received and sent, in frames.
ovs_counters() {
    ovs_datapath show -s | awk '
        $1 == "port" { name = $3 }
        ($1 == "RX" || $1 == "TX") && $2 ~ /^packets:/ { split($2, part, ":"); count[name $1] = part[2] }
        END { printf "%d %d\n", count["p0RX"] + count["p1RX"], count["p0TX"] + count["p1TX"] }'
}
ovs_counted() { [ "$(ovs_counters | cut -d' ' -f1)" -ge "$1" ]; }

# What OVS is to do: the pipelines of work, both directions.
ovs_work() {
    local bridge=unix:$OVS/br0.mgmt member buckets=''
    ovs-ofctl del-flows "$bridge"
    case $1 in
        l2) echo "actions=NORMAL" ;;
        chain)
            cat <<'FLOWS'
table=0,ip,actions=ct(table=1,nat)
table=1,ct_state=+new+trk,in_port=1,ip,actions=ct(commit,nat(src=10.2.0.100)),resubmit(,2)
table=1,ct_state=+est+trk,ip,actions=resubmit(,2)
table=2,ip,nw_dst=10.2.0.0/24,actions=mod_dl_src:02:00:00:00:01:01,mod_dl_dst:02:00:00:00:02:02,dec_ttl,output:2
table=2,ip,nw_dst=10.1.0.0/16,actions=mod_dl_src:02:00:00:00:00:01,mod_dl_dst:02:00:00:00:00:02,dec_ttl,output:1
FLOWS
            ;;
        dlb)
            for member in "${OVS_MEMBERS[@]}"; do
                buckets+=",bucket=actions=ct(commit,table=2,nat(dst=$member))"
            done
            ovs-ofctl -O OpenFlow15 add-group "$bridge" \
                "group_id=1,type=select,selection_method=dp_hash$buckets"
            # Until it is answered a connection is new, and its second packet translated already.
            cat <<'FLOWS'
table=0,ip,actions=ct(table=1,nat)
table=1,ct_state=+new+trk,in_port=1,ip,nw_dst=10.9.9.9,actions=group:1
table=1,ct_state=+new+trk,in_port=1,ip,nw_dst=10.2.0.0/24,actions=resubmit(,2)
table=1,ct_state=+est+trk,ip,actions=resubmit(,2)
table=2,ip,nw_dst=10.2.0.0/24,actions=mod_dl_src:02:00:00:00:01:01,mod_dl_dst:02:00:00:00:02:02,dec_ttl,output:2
table=2,ip,nw_dst=10.1.0.0/16,actions=mod_dl_src:02:00:00:00:00:01,mod_dl_dst:02:00:00:00:00:02,dec_ttl,output:1
FLOWS
            ;;
        *) die "no such work: $1" ;;
    esac | ovs-ofctl add-flows "$bridge" -
}

# ovs_verify WORK FLOWS: opens the flows, in both directions, and checks every frame of them. Sets FRAMES to their number.
ovs_verify() {
    local work=$1 flows=$2 dir=$TMP/ovs-$1 dst=10.2.0.2 to_mac=$OVS_GATEWAY_MAC there_frames back_frames
    local -a there=() back=()
    mkdir -p "$dir"
    case $work in
        l2) to_mac=02:00:00:00:02:02 ;;
        chain)
            there=(--hops 1 --src 10.2.0.100 --to-mac 02:00:00:00:02:02 --from-mac 02:00:00:00:01:01)
            ;;
        dlb)
            dst=10.9.9.9
            there=(--hops 1 --members "$(IFS=,; echo "${OVS_MEMBERS[*]}")" --to-mac 02:00:00:00:02:02 --from-mac 02:00:00:00:01:01)
            ;;
    esac
    [ "$work" = l2 ] || back=(--hops 1 --to-mac "$OVS_CLIENT_MAC" --from-mac "$OVS_GATEWAY_MAC")
    python3 "$HERE/frames.py" requests "$dir/requests.pcap" --flows "$flows" --to-mac "$to_mac" \
        --from-mac "$OVS_CLIENT_MAC" --src 10.1.0.2 --dst "$dst"
    python3 "$HERE/frames.py" requests "$dir/filled.pcap" --flows "$flows" --to-mac "$to_mac" \
        --from-mac "$OVS_CLIENT_MAC" --src 10.1.0.2 --dst "$dst" --fillers "$OVS_FILLERS"
    ovs_work "$work"
    ovs_port 1 "rx_pcap=$TMP/empty.pcap,tx_pcap=$dir/there.pcap"
    ovs_port 0 "rx_pcap=$dir/filled.pcap,tx_pcap=$dir/back.pcap"
    wait_for "the requests to be read" ovs_counted $((OVS_FILLERS + flows))
    # Made anew, the port has written what it got, and sends the replies.
    ovs_db del-port p1
    there_frames=$(python3 "$HERE/frames.py" check --flows "$flows" --sent "$dir/requests.pcap" \
        --captured "$dir/there.pcap" "${there[@]}")
    python3 "$HERE/frames.py" replies "$dir/replies.pcap" "$dir/there.pcap"
    python3 "$HERE/frames.py" replies "$dir/filled.pcap" "$dir/there.pcap" --fillers "$OVS_FILLERS"
    ovs_port 1 "rx_pcap=$dir/filled.pcap,tx_pcap=$dir/none.pcap"
    wait_for "the replies to be read" ovs_counted $((2 * (OVS_FILLERS + flows)))
    ovs_db del-port p0
    back_frames=$(python3 "$HERE/frames.py" check --flows "$flows" --sent "$dir/replies.pcap" --client "$dir/requests.pcap" \
        --captured "$dir/back.pcap" "${back[@]}")
    FRAMES=$((there_frames + back_frames))
}

# ovs_rate WORK FLOWS: Mpps, both directions together, after ovs_verify; nothing may be lost and no flow forgotten. Sets MPPS.
ovs_rate() {
    local work=$1 flows=$2 dir=$TMP/ovs-$1 connections
    ovs_port 0 "rx_pcap=$dir/requests.pcap,infinite_rx=1"
    ovs_port 1 "rx_pcap=$dir/replies.pcap,infinite_rx=1"
    sleep 1
    local before after began ended
    before=$(ovs_counters)
    began=$(date +%s%N)
    sleep "$SECONDS_EACH"
    after=$(ovs_counters)
    ended=$(date +%s%N)
    connections=$(ovs_datapath ct-get-nconns)
    if [ "$work" != l2 ] && [ "$connections" != "$flows" ]; then
        die "Open vSwitch tracks $connections connections, not $flows"
    fi
    # Both directions share a PMD, which reads a port at a time: what is under way differs by some batches.
    MPPS=$(awk -v before="$before" -v after="$after" -v ns=$((ended - began)) 'BEGIN {
        split(before, b); split(after, a)
        received = a[1] - b[1]; sent = a[2] - b[2]
        if (received == 0 || sent < 0.999 * received || sent > 1.001 * received) {
            printf "Open vSwitch got %d frames and sent %d\n", received, sent > "/dev/stderr"
            exit 1
        }
        printf "%.4f\n", sent / ns * 1000
    }')
}
