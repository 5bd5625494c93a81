//! `matrix` and its `--expect`. That its verdicts are right is the business of `policy_matrix.rs`.

use serde_json::Value;

use crate::support::{Desk, topology};

fn arguments<'a>(lab: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["matrix", "-f", lab, "-n", "shop", "--ports", "tcp/80,tcp/8080"], more].concat()
}

/// Two pods of `store`, open at 8080 by policy and closed otherwise; `cart`, which its namespace may reach.
const SHOP: &str = "\
from,to,proto,port,verdict
shop/cart,shop/store-0,TCP,80,deny
shop/cart,shop/store-0,TCP,8080,allow
shop/cart,shop/store-1,TCP,80,deny
shop/cart,shop/store-1,TCP,8080,allow
shop/store-0,shop/cart,TCP,80,allow
shop/store-0,shop/cart,TCP,8080,allow
shop/store-0,shop/store-1,TCP,80,deny
shop/store-0,shop/store-1,TCP,8080,allow
shop/store-1,shop/cart,TCP,80,allow
shop/store-1,shop/cart,TCP,8080,allow
shop/store-1,shop/store-0,TCP,80,deny
shop/store-1,shop/store-0,TCP,8080,allow
";

#[test]
fn the_table_sorted_and_in_every_format() {
    let lab = topology("supervisor");
    let desk = Desk::new();
    assert_eq!(desk.ok(&arguments(&lab, &["-o", "csv"])), SHOP);
    let json: Value = serde_json::from_str(&desk.ok(&arguments(&lab, &["-o", "json"]))).unwrap();
    let yaml: Value = serde_saphyr::from_str(&desk.ok(&arguments(&lab, &["-o", "yaml"]))).unwrap();
    assert_eq!(json, yaml);
    assert_eq!(json.as_array().unwrap().len(), 12);
    assert_eq!(desk.ok(&arguments(&lab, &[])).lines().count(), 13);
    // The order and repetition of ports mean nothing.
    let ports =
        ["matrix", "-f", &lab, "-n", "shop", "--ports", "tcp/8080,TCP/80,tcp/8080", "-o", "csv"];
    assert_eq!(desk.ok(&ports), SHOP);
}

#[test]
fn services_and_clients_outside() {
    let lab = topology("supervisor");
    let table =
        Desk::new().ok(&arguments(&lab, &["--services", "--ext", "192.168.20.100", "-o", "csv"]));
    for row in [
        // From outside a service is its ingress address; one without has none.
        "ext:192.168.20.100,svc:shop/store,TCP,80,allow",
        "ext:192.168.20.100,svc:shop/store,TCP,8080,deny",
        "ext:192.168.20.100,svc:shop/cart,TCP,80,deny",
        "ext:192.168.20.100,shop/store-0,TCP,8080,deny",
        "shop/cart,svc:shop/store,TCP,80,allow",
        "shop/cart,ext:192.168.20.100,TCP,80,allow",
        // A reset from the host itself is an answer.
        "shop/cart,ext:192.168.20.100,TCP,8080,allow",
    ] {
        assert!(table.lines().any(|line| line == row), "{row} is not in\n{table}");
    }
    assert!(!table.contains("banking"), "{table}");
    assert!(!table.contains("ext:192.168.20.100,ext:"), "{table}");
    let named = Desk::new().ok(&arguments(&lab, &["--services", "--ext", "client", "-o", "csv"]));
    assert_eq!(named, table);
}

#[test]
fn expectations() {
    let lab = topology("supervisor");
    let desk = Desk::new();
    let check = |text: &str, code: i32| {
        desk.write("expected.csv", text);
        let done = desk.run(&arguments(&lab, &["--expect", "expected.csv", "-o", "csv"]));
        assert_eq!(done.status.code(), Some(code), "{text}\n{}{}", done.stdout, done.stderr);
        done.stdout + &done.stderr
    };
    check(SHOP, 0);
    // Rows in any order, comments, blank lines, CRLF.
    let (header, rows) = SHOP.split_once('\n').unwrap();
    let mut backwards: Vec<&str> = rows.lines().rev().collect();
    backwards.insert(0, header);
    backwards.insert(3, "# a comment");
    backwards.push("");
    check(&backwards.join("\r\n"), 0);

    let wrong = "shop/store-0,shop/cart,TCP,80";
    let said = check(&SHOP.replace(&format!("{wrong},allow"), &format!("{wrong},deny")), 1);
    assert!(said.contains(&format!("{wrong},deny,allow")), "{said}");
    assert!(!said.contains("shop/store-0,shop/cart,TCP,8080"), "a row that agrees: {said}");
    // A row too few and a row too many.
    let said = check(&SHOP.replace(&format!("{wrong},allow\n"), ""), 1);
    assert!(said.contains(&format!("{wrong},-,allow")), "{said}");
    let said = check(&format!("{SHOP}shop/cart,shop/nobody,TCP,80,deny\n"), 1);
    assert!(said.contains("shop/cart,shop/nobody,TCP,80,deny,-"), "{said}");
    check("", 1);
    for (bad, line) in [
        ("from,to,proto,port,verdict\nshop/cart,shop/store-0,TCP,80\n", 2),
        ("from,to,proto,port,verdict\nshop/cart,shop/store-0,TCP,80,maybe\n", 2),
        ("shop/cart,shop/store-0,TCP,http,allow\n", 1),
        ("shop/cart,shop/store-0,TCP,80,allow\nshop/cart,shop/store-0,TCP,80,deny\n", 2),
    ] {
        let said = check(bad, 2);
        assert!(said.contains(&format!("expected.csv:{line}: ")), "{said}");
    }
    desk.write("expected.csv", b"\xff\xfe\n");
    desk.fails(2, &arguments(&lab, &["--expect", "expected.csv"]));
}
