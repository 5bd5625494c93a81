//! Wrong definitions: one clear message with file, line and object, exit code 2, within 2 s and 256 MiB, and nothing is changed.

use std::time::{Duration, Instant};

use crate::support::{Desk, is_release};

/// What the issue allows, less what the program's own text takes: a limit on data (anonymous memory) is kept by the kernel, to the
/// page, where a look at the resident size from outside could come too late.
const DATA_KIB: u32 = 240 * 1024;
/// For release builds.
const TIME: Duration = Duration::from_secs(2);

const SUPERVISOR: &str = "kind: SupervisorCluster\nmetadata: {name: s}\nspec:\n";
const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n";

/// A desk where a lab has run before, and the definitions that are wrong now.
fn desk(content: impl AsRef<[u8]>) -> Desk {
    let desk = Desk::with(content);
    desk.write(".tierlab/allocations.yaml", "version: 1\npods: {a/p: 10.244.0.20}\n");
    desk
}

/// Refused by `validate` and by `up` alike, which leave everything as it was; what is said.
#[track_caller]
fn refused(what: &str, content: impl AsRef<[u8]>) -> String {
    let desk = desk(content);
    let before = desk.files();
    let limit = format!("ulimit -d {DATA_KIB};");
    let mut said = Vec::new();
    for arguments in
        [&["validate", "-f", "lab.yaml"][..], &["up", "-f", "lab.yaml", "--duration", "1"]]
    {
        let begun = Instant::now();
        let done = desk.run_in_shell(&limit, "", arguments);
        let took = begun.elapsed();
        assert_eq!(
            done.status.code(),
            Some(2),
            "{what}: {}\n{}{}",
            done.status,
            done.stdout,
            done.stderr
        );
        assert_eq!(done.stdout, "", "{what}");
        assert!(!is_release() || took < TIME, "{what} took {took:?}");
        assert!(desk.files() == before, "{what}: {} changed something", arguments[0]);
        said.push(done.stderr);
    }
    assert_eq!(said[0], said[1], "{what}");
    let said = said.remove(0);
    assert!(!said.contains(|c: char| c.is_control() && c != '\n'), "{what}: {said:?}");
    assert!(said.lines().all(|line| line.len() < 1000), "{what}: {said}");
    said
}

/// A `spec` of the supervisor, from line 4 on.
fn supervisor(spec: &str) -> String {
    format!("{SUPERVISOR}{spec}\n")
}

/// An object after the namespace `a` and a supervisor; its first line is line 8.
fn with(object: &str) -> String {
    format!("kind: SupervisorCluster\nmetadata: {{name: s}}\n---\n{NAMESPACE}---\n{object}")
}

fn service(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: a}}\nspec: {{{spec}, ports: [{{port: 80}}]}}\n"
    )
}

#[test]
fn one_fault_one_message_with_file_line_and_object() {
    let policy = |spec: &str| {
        with(&format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: a}}\nspec:\n{spec}\n"
        ))
    };
    let ports = |ports: &str| {
        with(&format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: a}}\nspec:\n  ports:\n{ports}\n"
        ))
    };
    let mut wrong = Vec::new();
    for (text, place, part) in [
        // CIDRs.
        (supervisor("  podCIDR: 10.244.0.0/33"), "4: SupervisorCluster s", "10.244.0.0/33"),
        (supervisor("  podCIDR: 10.244.0.1/20"), "4: SupervisorCluster s", "10.244.0.0/20"),
        (supervisor("  podCIDR: everything"), "4: SupervisorCluster s", "'everything'"),
        (supervisor("  podCIDR: 10.244.0.0"), "4: SupervisorCluster s", "prefix length"),
        (supervisor("  podCIDR: 10.244.0.0/29"), "4: SupervisorCluster s", "podCIDR"),
        (supervisor("  podCIDR: 10.96.0.0/20"), "4: SupervisorCluster s", "overlaps"),
        (supervisor("  ingressCIDR: 172.16.2.128/25"), "4: SupervisorCluster s", "overlaps"),
        (supervisor("  egressCIDR: 192.168.10.0/24"), "4: SupervisorCluster s", "overlaps"),
        (supervisor("  transitCIDR: 10.0.0.0/8"), "4: SupervisorCluster s", "overlaps"),
        // Ports.
        (ports("  - {port: 0}"), "13: Service a/web", "port 0 is not in 1..65535"),
        (ports("  - {port: 70000}"), "13: Service a/web", "port 70000 is not in 1..65535"),
        (ports("  - {port: 80, targetPort: 70000}"), "13: Service a/web", "70000"),
        (ports("  - {port: -1}"), "13: Service a/web", "-1"),
        (ports("  - {port: 80, name: a}\n  - {port: 81}"), "14: Service a/web", "name"),
        // Selectors, of which a dropped one would fail open.
        (policy("  podSelectr: {}"), "12: NetworkPolicy a/p", "did you mean 'podSelector'?"),
        (
            policy("  podSelector: {matchLabel: {a: b}}"),
            "12: NetworkPolicy a/p",
            "did you mean 'matchLabels'?",
        ),
        (
            policy("  podSelector: {}\n  ingress:\n  - form: []"),
            "14: NetworkPolicy a/p",
            "did you mean 'from'?",
        ),
        (
            policy("  podSelector: {}\n  ingress:\n  - from:\n    - namespaceselector: {}"),
            "15: NetworkPolicy a/p",
            "did you mean 'namespaceSelector'?",
        ),
        (
            with(
                "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: a}\nspec:\n  selectors: {app: web}\n  ports: [{port: 80}]\n",
            ),
            "12: Service a/web",
            "did you mean 'selector'?",
        ),
        // Names.
        (with(NAMESPACE), "8: Namespace a", "is already defined at lab.yaml:4"),
        (
            with(
                &(service("web", "selector: {a: b}")
                    + "---\n"
                    + &service("web", "selector: {a: c}")),
            ),
            "13: Service a/web",
            "is already defined at lab.yaml:8",
        ),
        (
            with("apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: b}\nspec: {}\n"),
            "8: Pod b/p",
            "namespace 'b' is not defined",
        ),
        (
            with("apiVersion: v1\nkind: Pod\nmetadata: {name: P_1, namespace: a}\nspec: {}\n"),
            "10: Pod a/P_1",
            "is not a DNS name",
        ),
        (
            with("apiVersion: v1\nkind: Pod\nmetadata: {namespace: a}\nspec: {}\n"),
            "10: Pod",
            "metadata.name is missing",
        ),
        (
            format!(
                "{}---\n{}",
                supervisor("  hosts: 4"),
                supervisor("  hosts: 4").replace("name: s", "name: z")
            ),
            "9: SupervisorCluster z",
            "'s' is defined at lab.yaml:1",
        ),
        (
            with("apiVersion: lab.tierlab.dev/v1alpha1\nkind: ExternalHots\nmetadata: {name: h}\n"),
            "9: ExternalHots h",
            "did you mean 'ExternalHost'?",
        ),
        (with("kind: Pod\nmetadata: {name: p}\n"), "8: Pod default/p", "apiVersion is missing"),
        (with("apiVersion: v1\nmetadata: {name: p}\n"), "8", "kind is missing"),
        (with("just text\n"), "8", "is not an object"),
        // Pools.
        (
            with(&service(
                "web",
                "type: LoadBalancer, loadBalancerIP: 172.16.9.1, selector: {a: b}",
            )),
            "8: Service a/web",
            "172.16.9.1",
        ),
        (
            with(&service("web", "clusterIP: 10.97.0.1, selector: {a: b}")),
            "8: Service a/web",
            "10.97.0.1",
        ),
        (
            with(
                &(service("v", "clusterIP: 10.96.0.9, selector: {a: b}")
                    + "---\n"
                    + &service("w", "clusterIP: 10.96.0.9, selector: {a: b}")),
            ),
            "13: Service a/w",
            "10.96.0.9",
        ),
    ] {
        let said = refused(&text, &text);
        let place = format!("lab.yaml:{place}: ");
        if said.lines().count() != 1 || !said.starts_with(&place) || !said.contains(part) {
            wrong.push(format!(
                "{text}\nshould be refused once, with {place} … {part}, not\n{said}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn full_pools() {
    let many = |count: usize, object: &dyn Fn(usize) -> String| -> String {
        (0..count).map(|i| format!("---\n{}", object(i))).collect()
    };
    let balanced = |i: usize| service(&format!("s{i:03}"), "type: LoadBalancer, selector: {a: b}");
    let plain = |i: usize| service(&format!("s{i:03}"), "selector: {a: b}");
    let pod = |i: usize| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p{i:03}, namespace: a}}\nspec: {{containers: [{{name: c, image: i}}]}}\n"
        )
    };
    for (pool, network, objects, last) in [
        // 14 addresses for the outside, from .1 to .14.
        ("ingressCIDR", "172.16.1.0/28", many(15, &balanced), "Service a/s014"),
        // A /28 of ClusterIPs, from .1 to .14.
        ("serviceCIDR", "10.96.0.0/28", many(15, &plain), "Service a/s014"),
        // Two blocks: the control plane's and one with 13 addresses.
        ("podCIDR", "10.244.0.0/27", many(14, &pod), "a"),
        // One address, the system's.
        ("egressCIDR", "172.16.2.0/32", String::new(), "Namespace a"),
    ] {
        let text = format!("{SUPERVISOR}  {pool}: {network}\n---\n{NAMESPACE}{objects}");
        let said = refused(pool, text);
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(
            said.contains(pool) && said.contains(network) && said.contains(last),
            "{pool}: {said}"
        );
        assert!(said.starts_with("lab.yaml:"), "{said}");
    }
}

#[test]
fn hostile_texts() {
    const MIB: usize = 1 << 20;
    let mut aliases = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let references = vec![format!("*a{}", level - 1); 10].join(", ");
        aliases += &format!("a{level}: &a{level} [{references}]\n");
    }
    let policies: String = (0..2000)
        .map(|i| format!("---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p{i}, namespace: a}}\nspec: {{podSelector: {{}}, ingress: [{{from: [{{namespaceSelector: {{}}}}]}}]}}\n"))
        .collect();
    let deployment = |replicas: usize| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: d, namespace: a}}\nspec:\n  replicas: {replicas}\n  selector: {{matchLabels: {{a: b}}}}\n  template: {{metadata: {{labels: {{a: b}}}}, spec: {{}}}}\n"
        )
    };
    for (what, content) in [
        ("alias bomb", aliases.into_bytes()),
        ("self reference", b"a: &a [*a]\n".to_vec()),
        ("deep flow", vec![b'['; 15 * MIB]),
        ("deep maps", "{a: ".repeat(3 * MIB).into_bytes()),
        ("deep sequences", "- ".repeat(7 * MIB).into_bytes()),
        (
            "deep block",
            (0..5000).map(|i| format!("{}a:\n", " ".repeat(i))).collect::<String>().into_bytes(),
        ),
        ("not UTF-8", b"apiVersion: v1\nkind: Namespace\nmetadata: {name: caf\xe9}\n".to_vec()),
        ("UTF-16", "\u{feff}kind: Pod\n".encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("NUL", b"kind: Pod\nname: \0\n".to_vec()),
        ("escape", b"kind: \x1b[31mPod\n".to_vec()),
        ("not closed", b"kind: {Pod\n".to_vec()),
        ("tabs", b"kind: Pod\n\tname: p\n".to_vec()),
        ("too large", vec![b'a'; 17 * MIB]),
        ("a long value", supervisor(&format!("  podCIDR: {}", "a".repeat(15 * MIB))).into_bytes()),
        (
            "a long name",
            format!(
                "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {}}}\n",
                "a".repeat(15 * MIB)
            )
            .into_bytes(),
        ),
        ("many documents", "--- {}\n".repeat(2 * MIB).into_bytes()),
        (
            "many objects",
            format!(
                "apiVersion: v1\nkind: List\nitems:\n{}",
                "- {apiVersion: v1, kind: Namespace, metadata: {name: a}}\n".repeat(100_000)
            )
            .into_bytes(),
        ),
        ("more pods than addresses", with(&deployment(10_000)).into_bytes()),
        ("more pods than there may be", with(&deployment(2_000_000_000)).into_bytes()),
        (
            "a large lab with a fault",
            (with(&deployment(3000)) + &policies + "---\n" + &service("s", "clusterIP: 10.97.0.1"))
                .into_bytes(),
        ),
        ("a captured packet", crate::support::pcap(&[(0, vec![0; 60])])),
    ] {
        let said = refused(what, content);
        assert!(said.starts_with("lab.yaml:"), "{what}: {said}");
        assert!(said.lines().count() <= 201, "{what}: {said}");
    }
}

/// Texts of the user's that come back in messages and tables: what they are printed as.
#[test]
fn escapes_do_not_reach_the_terminal() {
    let escape = "\\e[31m\\r\\n\\u0085\\x9b";
    let host = |interface: &str, more: &str| {
        format!(
            "kind: ExternalNetwork\nmetadata: {{name: net}}\n---\nkind: ExternalHost\nmetadata: {{name: h}}\nspec:\n  interfaces: [{{network: net, addresses: [10.0.0.1/24], {interface}}}]\n  {more}\n"
        )
    };
    let kubernetes =
        |kind: &str, rest: &str| format!("apiVersion: v1\nkind: {kind}\nmetadata: {{{rest}\n");
    let step = |step: &str| {
        format!(
            "{}---\nkind: PacketTest\nmetadata: {{name: t}}\nspec:\n  steps:\n  - {step}\n",
            host("name: eth0", "")
        )
    };
    for text in [
        "kind: \"@\"".to_owned(),
        "apiVersion: \"@\"\nkind: Pod".to_owned(),
        "\"@\": 1".to_owned(),
        kubernetes("Pod", "name: \"@\"}"),
        kubernetes("Pod", "name: p, namespace: \"@\"}"),
        kubernetes("Pod", "name: p, labels: {\"@\": b}}"),
        kubernetes("Pod", "name: p, labels: {b: \"@\"}}"),
        kubernetes("Pod", "name: p, annotations: {\"@\": b}}"),
        kubernetes("Pod", "name: p, annotations: {lab.tierlab.dev/ip: \"@\"}}"),
        kubernetes("Pod", "name: p, annotations: {lab.tierlab.dev/host: \"@\"}}"),
        kubernetes(
            "Pod",
            "name: p}\nspec: {containers: [{name: c, ports: [{containerPort: 1, name: \"@\"}]}]}",
        ),
        kubernetes("Service", "name: s}\nspec: {type: ExternalName, externalName: \"@\"}"),
        kubernetes("Service", "name: s}\nspec: {clusterIP: \"@\", ports: [{port: 1}]}"),
        kubernetes("Service", "name: s}\nspec: {ports: [{port: 1, targetPort: \"@\"}]}"),
        supervisor("  podCIDR: \"@\""),
        supervisor("  profile: \"@\""),
        supervisor("  hosts: [\"@\"]"),
        supervisor("  tier0: \"@\""),
        supervisor("  \"@\": 1"),
        host("name: \"@\"", ""),
        host("name: eth0, mac: \"@\"", ""),
        host("name: eth0", "routes: [{to: \"@\", dev: eth0}]"),
        step("{send: {from: \"@\", icmp: {to: 10.0.0.2}}}"),
        step("{send: {from: host/h, icmp: {to: \"@\"}}}"),
        step("{send: {from: host/h, tcp: {to: \"10.0.0.2:1\", flags: \"@\"}}}"),
        step("{advance: \"@\"}"),
    ] {
        let said = refused(&text, text.replace('@', escape));
        assert!(said.starts_with("lab.yaml:"), "{text}: {said}");
    }
    // What is allowed to hold anything at all.
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, annotations: {note: \"@\"}}\nspec: {containers: [{name: \"@\", image: \"@\", command: [\"@\"]}]}\n";
    let skipped =
        "apiVersion: \"x.example/@\"\nkind: \"K@\"\nmetadata: {name: \"@\", namespace: \"@\"}\n";
    let test = step("{send: {from: host/h, udp: {to: \"10.0.0.2:1\", payload: \"@\"}}}\n  - {expect: {at: host/h, udp: {payload: \"@\"}}}")
        .replace("spec:\n  steps", "spec:\n  description: \"@\"\n  steps");
    let peer = "kind: ExternalHost\nmetadata: {name: peer}\nspec: {interfaces: [{name: eth0, network: net, addresses: [10.0.0.2/24]}]}\n";
    let text = format!("{SUPERVISOR}  hosts: 4\n---\n{pod}---\n{skipped}---\n{test}---\n{peer}")
        .replace('@', escape);
    let desk = Desk::with(text);
    for arguments in [
        "validate -f lab.yaml",
        "get pods -o wide -f lab.yaml",
        "get pods -o yaml -f lab.yaml",
        "get ports -o csv -f lab.yaml",
        "get hosts -o wide -f lab.yaml",
        "test lab.yaml",
        "test lab.yaml -o json",
        "test lab.yaml -o tap",
        "test lab.yaml --list",
    ] {
        let done = desk.run(&arguments.split(' ').collect::<Vec<_>>());
        let failing = arguments.starts_with("test") && !arguments.contains("--list");
        assert_eq!(
            done.status.code(),
            Some(i32::from(failing)),
            "{arguments}: {}{}",
            done.stdout,
            done.stderr
        );
        let said = done.stdout + &done.stderr;
        assert!(!said.contains(|c: char| c.is_control() && c != '\n'), "{arguments}: {said:?}");
    }
}

/// A lab that somebody got from somebody else: the names of its files are that person's too.
#[test]
#[cfg(unix)]
fn escapes_in_file_names_do_not_reach_the_terminal() {
    let desk = Desk::new();
    desk.write("lab/\u{1b}[31m.yaml", "kind: [");
    desk.write("tests/\u{1b}[31m.yaml", "kind: PacketTest\nmetadata: {name: t}\nspec: {steps: [{send: {from: host/h, icmp: {to: 10.0.0.2}}}, {expect: {at: host/h, icmp: {seq: 999}}}]}\n---\nkind: ExternalNetwork\nmetadata: {name: net}\n---\nkind: ExternalHost\nmetadata: {name: h}\nspec: {interfaces: [{name: eth0, network: net, addresses: [10.0.0.1/24]}]}\n");
    for arguments in [
        "validate -f lab",
        "get pods -f lab",
        "test lab",
        "test tests",
        "test tests -o json",
        "test tests -o tap",
        "test tests --junit junit.xml",
    ] {
        let done = desk.run(&arguments.split(' ').collect::<Vec<_>>());
        assert!(!done.status.success());
        let said = done.stdout + &done.stderr;
        assert!(!said.contains('\u{1b}'), "{arguments}: {said:?}");
    }
    let junit = String::from_utf8(desk.read("junit.xml")).unwrap();
    assert!(!junit.contains('\u{1b}'), "no XML 1.0 document has this character: {junit:?}");
}

#[test]
fn what_the_message_says_comes_from_the_right_file() {
    let desk = Desk::new();
    desk.write("a/one.yaml", with(""));
    desk.write(
        "a/two.yaml",
        "\n\napiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: b}\nspec: {}\n",
    );
    desk.write("a/three.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: a}\nspec: {ports: [{port: 0}]}\n");
    // What objects are by themselves is judged first, and by place.
    let said = desk.fails(2, &["validate", "-f", "a"]);
    assert_eq!(said, "a/three.yaml:4: Service a/s: port 0 is not in 1..65535\n");
    std::fs::remove_file(desk.path().join("a/three.yaml")).unwrap();
    let said = desk.fails(2, &["get", "routes", "-f", "a"]);
    assert!(said.starts_with("a/two.yaml:3: Pod b/p: namespace 'b' is not defined"), "{said}");
    // Every command that reads definitions refuses them.
    for line in [
        "validate -f a",
        "get dfw -f a",
        "ping pod/a/p 10.0.0.1 -f a",
        "curl pod/a/p http://10.0.0.1/ -f a",
        "trace pod/a/p 10.0.0.1 -f a",
        "matrix --ports tcp/80 -f a",
        "test a",
        "up --duration 1 -f a",
        "replay --in pod/a/p=x.pcap --out out -f a",
    ] {
        assert_eq!(desk.fails(2, &line.split(' ').collect::<Vec<_>>()), said, "{line}");
    }
    assert!(!desk.path().join(".tierlab").exists() && !desk.path().join("out").exists());
}
