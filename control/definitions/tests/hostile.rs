//! Hostile input fails within 2 s and 256 MiB, with a message.
//!
//! One test in its own process, because memory is that of the process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::time::{Duration, Instant};

use definitions::{Input, load};

/// The most memory this process ever had, in KiB (proc(5)).
#[cfg(target_os = "linux")]
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn bomb() -> String {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let references = vec![format!("*a{}", level - 1); 10].join(", ");
        text += &format!("a{level}: &a{level} [{references}]\n");
    }
    text
}

#[test]
#[cfg(target_os = "linux")]
fn hostile_input_fails_quickly_and_in_little_memory() {
    const MIB: usize = 1024 * 1024;
    let namespace =
        |rest: &str| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: a}}\n{rest}");
    let directory = tempfile::tempdir().unwrap();
    // Each is written and forgotten before the next is built, so that the peak is the loader's.
    let case = |name: &'static str, bytes: Vec<u8>| {
        let path = directory.path().join(format!("{name}.yaml"));
        std::fs::write(&path, bytes).unwrap();
        (name, path)
    };
    let cases = vec![
        case("alias bomb", bomb().into_bytes()),
        case(
            "merge bomb",
            format!(
                "a: &a {{{}}}\nb: [{}]\n",
                (0..1000).map(|i| format!("k{i}: 1")).collect::<Vec<_>>().join(", "),
                vec!["{<<: *a}"; 5000].join(", ")
            )
            .into_bytes(),
        ),
        case("deep flow", vec![b'['; 15 * MIB]),
        case("deep flow maps", "{a: ".repeat(3 * MIB).into_bytes()),
        case(
            "deep block",
            (0..5000).map(|i| format!("{}a:\n", " ".repeat(i))).collect::<String>().into_bytes(),
        ),
        case("deep block sequence", "- ".repeat(7 * MIB).into_bytes()),
        case("many nodes", "- a\n".repeat(4 * MIB - 1).into_bytes()),
        case(
            "many keys",
            (0..1_000_000).map(|i| format!("k{i}: 1\n")).collect::<String>().into_bytes(),
        ),
        case("many documents", "--- {}\n".repeat(2 * MIB).into_bytes()),
        case("many empty documents", "---\n".repeat(4 * MIB - 1).into_bytes()),
        case(
            "many skipped objects, each with a fault",
            "---\nkind: A\n".repeat(90_000).into_bytes(),
        ),
        case("too large", vec![b'a'; 17 * MIB]),
        case(
            "one long scalar in a name",
            namespace(&format!("x: {}", "a".repeat(15 * MIB))).into_bytes(),
        ),
        case(
            "one long network",
            format!(
                "kind: SupervisorCluster\nmetadata: {{name: s}}\nspec: {{podCIDR: {}}}\n",
                "a".repeat(15 * MIB)
            )
            .into_bytes(),
        ),
        case(
            "control characters that are escaped",
            b"kind: SupervisorCluster\nmetadata: {name: s}\nspec: {podCIDR: \"\\e[31m\", hosts: [\"\\e[31m\"]}\n".to_vec(),
        ),
        case("one long key", namespace(&format!("{}: 1", "a".repeat(15 * MIB))).into_bytes()),
        case("long quoted", format!("a: \"{}", "\\\"".repeat(7 * MIB)).into_bytes()),
        case("not UTF-8", [vec![b'#'; 15 * MIB], vec![0xff]].concat()),
        case("UTF-16", "kind: Pod\n".encode_utf16().flat_map(u16::to_le_bytes).collect()),
        case("NUL", b"kind: Pod\nname: \0\n".to_vec()),
        case("control characters", b"kind: \x1b[31mPod\n".to_vec()),
        case(
            "anchors",
            (0..200_000).map(|i| format!("- &a{i} x\n")).collect::<String>().into_bytes(),
        ),
        case("self reference", b"a: &a [*a]\n".to_vec()),
        case(
            "unknown fields",
            namespace(&(0..100_000).map(|i| format!("f{i}: 1\n")).collect::<String>()).into_bytes(),
        ),
        case("directives", "%YAML 1.2\n".repeat(MIB).into_bytes()),
        case("question marks", "? ".repeat(7 * MIB).into_bytes()),
        case(
            "bad labels",
            format!(
                "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n  labels:\n{}",
                (0..100_000).map(|i| format!("    k{i}: 'a b'\n")).collect::<String>()
            )
            .into_bytes(),
        ),
        case("many unknown fields in many pods", (0..2500).map(|i| format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{i}}}\nspec: {{{}}}\n", (0..80).map(|k| format!("fieldnumber{k}: 1")).collect::<Vec<_>>().join(", "))).collect::<String>().into_bytes()),
        case("many port names", format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  containers:\n  - ports:\n{}", (0..80_000).map(|i| format!("    - {{containerPort: 1, name: p{i}}}\n")).collect::<String>() + "    - {containerPort: 0}\n").into_bytes()),
        case("pods in namespaces that are not there", (0..15_000).map(|i| format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: namespace-{i}}}\n---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: nomespace-{i}}}\nspec: {{}}\n")).collect::<String>().into_bytes()),
        case("fat replicas", format!("apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a}}\nspec:\n  replicas: 10000\n  selector: {{matchLabels: {{k0: v}}}}\n  template:\n    metadata:\n      labels:\n{}    spec: {{}}\n", (0..100_000).map(|i| format!("        k{i}: v\n")).collect::<String>()).into_bytes()),
        case("steps that name pods that are not there", format!("kind: PacketTest\nmetadata: {{name: t}}\nspec:\n  steps:\n{}{}", "  - expectNothing: {at: pod/default/nope}\n".repeat(60_000), (0..6).map(|i| format!("---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: deployment-{i}}}\nspec:\n  replicas: 10000\n  selector: {{matchLabels: {{k0: v}}}}\n  template: {{metadata: {{labels: {{k0: v}}}}, spec: {{}}}}\n")).collect::<String>()).into_bytes()),
        case("hops and uplinks", format!("kind: Tier0Gateway\nmetadata: {{name: t}}\nspec:\n  uplinks: [{}]\n  staticRoutes:\n  - {{network: 0.0.0.0/0, nextHops: [{}]}}\n", (0..20_000).map(|i| format!("{{name: u{i}, network: net, addresses: [10.0.0.1/24]}}")).collect::<Vec<_>>().join(", "), (0..60_000).map(|i| format!("11.0.{}.{}", i / 256, i % 256)).collect::<Vec<_>>().join(", ")).into_bytes()),
    ];
    for (name, path) in cases {
        let start = Instant::now();
        let result = load(&[Input::Path(path)]);
        let time = start.elapsed();
        let errors = result.err().unwrap_or_else(|| panic!("{name} was accepted"));
        eprintln!("{name}: {time:?}, peak {} MiB: {}", peak() / 1024, errors[0]);
        assert!(time < Duration::from_secs(2), "{name} took {time:?}");
        assert!(errors.len() <= 201, "{name}: {} messages", errors.len());
        for error in &errors {
            let text = error.to_string();
            assert!(text.len() < 1000, "{name}: a message of {} octets", text.len());
            assert!(!text.contains(|c: char| c.is_control()), "{name}: {text:?}");
        }
    }
    // Each would be refused quickly; so must all together be.
    let start = Instant::now();
    assert!(load(&[Input::Path(directory.path().to_owned())]).is_err());
    let time = start.elapsed();
    assert!(time < Duration::from_secs(2), "all together took {time:?}");
    assert!(peak() < 256 * 1024, "peak {} KiB", peak());
}
