//! `tierlab up`: the lab on the wall clock, attached to TAPs, network namespaces and capture files.

use crate::args;
use crate::exit::{Error, Exit};
use crate::live::api::control::Control;
use crate::live::api::registry::{Registration, RegistryError, directories, is_name};
use crate::live::api::server::Server;
use crate::live::capture::Replays;
use crate::live::ending::Ending;
use crate::live::jobs::queue;
use crate::live::plan::{Plan, Planned, What};
use crate::live::port::LivePort;
use crate::live::run;
use crate::live::wiring::Wiring;
use crate::open::{ALLOCATIONS, Opened, lab, open};
use crate::output::{Format, aligned, render};
use crate::tables::drops;
use hosts::Lab;
use ports::{Poller, with_own_descriptors};
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

pub fn run(args: &args::Up) -> Result<Exit, Error> {
    if let Some(name) = args.name.as_deref().filter(|name| !is_name(name)) {
        return Err(Error::input(format!(
            "--name '{name}': lower-case letters, digits and dashes between them, at most 63"
        )));
    }
    let opened = open(&args.lab)?;
    let plan = Plan::of(&opened)?;
    Wiring::check(&plan)?;
    // From here on a signal ends the lab in order.
    let ending = Ending::listen()?;
    let mut api = Api::register(args, &opened)?;
    let allocations = args.lab.state.join(ALLOCATIONS);
    // Before anything is made, so that whatever was seen of a lab is what its next start gives.
    let kept = &opened.realized.allocations;
    kept.save(&allocations).map_err(|e| Error::environment(e.to_string()))?;
    notices(&Wiring::sweep()?);
    let mut lab = lab(&opened.realized);
    let mut wiring = Wiring::default();
    let ran = attach_and_run(args, opened, plan, &mut wiring, &mut lab, &mut api, &ending);
    // The TAPs are gone by now, and with them what was in the namespaces.
    let left = wiring.teardown();
    notices(&left);
    // Only now: who asked for the end by the API waits for it.
    drop(api);
    ran?;
    if left.is_empty() {
        Ok(Exit::Ok)
    } else {
        Err(Error::environment("not everything was taken down; the next 'up' tries again"))
    }
}

/// The lab's place among the running ones, and who answers there.
#[derive(Debug, Default)]
struct Api {
    // Dropped first: when the connections end, the name is free.
    registered: Option<Registration>,
    listener: Option<UnixListener>,
    server: Option<Server>,
}

impl Api {
    /// Takes the lab's name. Where there is no place for sockets, the lab runs without.
    fn register(args: &args::Up, opened: &Opened) -> Result<Api, Error> {
        let cluster = opened.definitions.supervisor().map(|cluster| cluster.meta.name.as_str());
        let usual = cluster.filter(|name| is_name(name)).unwrap_or("lab");
        let stated = args.name.as_deref();
        match Registration::new(&directories(), stated, usual) {
            Ok((registered, listener)) => {
                let name = registered.name();
                if stated.is_none() && name != usual {
                    say(&format!("a lab '{usual}' is running already: this one is '{name}'\n"));
                }
                let (registered, listener) = (Some(registered), Some(listener));
                Ok(Api { registered, listener, server: None })
            }
            Err(error @ RegistryError::Taken(_)) => Err(Error::input(error.to_string())),
            Err(error) if stated.is_some() => Err(Error::environment(error.to_string())),
            Err(error) => {
                notices(&[format!("other commands cannot reach this lab: {error}")]);
                Ok(Api::default())
            }
        }
    }

    /// Begins to answer.
    fn serve(&mut self, control: impl FnOnce(String) -> Control) -> Result<(), Error> {
        if let (Some(registered), Some(listener)) = (&self.registered, self.listener.take()) {
            self.server = Some(Server::start(listener, control(registered.name().to_owned()))?);
        }
        Ok(())
    }
}

fn attach_and_run(
    args: &args::Up,
    opened: Opened,
    plan: Plan,
    wiring: &mut Wiring,
    lab: &mut Lab,
    api: &mut Api,
    ending: &Ending,
) -> Result<(), Error> {
    let mut ports: Vec<LivePort> = Vec::new();
    for planned in &plan.plugs {
        let port = wiring
            .attach(planned)
            .map_err(|e| Error { message: format!("{}: {}", planned.name, e.message), ..e })?;
        ports.push(port);
    }
    let files = plan.plugs.iter().enumerate().filter_map(|(index, planned)| match &planned.what {
        What::Capture(files) => files.read.as_deref().map(|path| (index, path)),
        _ => None,
    });
    let mut replays = Replays::open(files)?;
    notices(&plan.notices);
    notices(&wiring.notices);
    say(&table(&plan, &ports));
    let poller =
        Poller::new().map_err(|e| Error::environment(format!("cannot wait for frames: {e}")))?;
    let (desk, jobs) = queue(poller.waker());
    api.serve(|name| Control {
        name,
        opened,
        plan,
        desk,
        allocations: args.lab.state.join(ALLOCATIONS),
        start: Instant::now(),
        changes: 0,
    })?;
    say("lab is up; ^C ends it\n");
    let duration = args.duration.map(Duration::from_secs);
    with_own_descriptors(|| {
        run::run(poller, &jobs, lab, &mut ports, &mut replays, ending, duration)
    })
    .map_err(|e| Error::environment(format!("cannot start the packet thread: {e}")))??;
    drop(jobs);
    let summary = summary(lab, &ports)?;
    let mut incomplete = Vec::new();
    for port in ports {
        let name = port.name.clone();
        incomplete.extend(port.close().err().map(|e| format!("{name}: {e}")));
    }
    say(&summary);
    if incomplete.is_empty() { Ok(()) } else { Err(Error::environment(incomplete.join("\n"))) }
}

/// Prints to standard output. Unlike `output::print` it does not end the program when the reader has
/// gone (`| head`): the lab goes on, and what it made must be taken down.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// What the user should know, to standard error.
fn notices(lines: &[String]) {
    for line in lines {
        eprintln!("{line}");
    }
}

/// What is attached where.
fn table(plan: &Plan, ports: &[LivePort]) -> String {
    if plan.plugs.is_empty() {
        return "nothing is attached: define Attachments to plug in something real\n".to_owned();
    }
    let header = ["PORT", "DEVICE", "NAMESPACE", "ADDRESS", "MAC", "GATEWAY"];
    let rows = plan.plugs.iter().zip(ports).map(|(planned, port)| row(planned, port)).collect();
    aligned(header.map(str::to_owned).to_vec(), rows)
}

fn row(planned: &Planned, port: &LivePort) -> Vec<String> {
    let (device, namespace) = match &planned.what {
        What::Machine(m) => (m.interface.name.to_string(), m.netns.to_string()),
        What::Tap { .. } => (port.tap_name().unwrap_or("-").to_owned(), dash()),
        What::Interface(name) => (name.to_string(), dash()),
        What::Capture(files) => {
            let read = files.read.iter().map(|f| format!("< {}", f.display()));
            let write = files.write.iter().map(|f| format!("> {}", f.display()));
            (read.chain(write).collect::<Vec<_>>().join(" "), dash())
        }
    };
    let list = |items: Vec<String>| if items.is_empty() { dash() } else { items.join(",") };
    vec![
        planned.name.clone(),
        device,
        namespace,
        list(planned.addresses.iter().map(|(a, len)| format!("{a}/{len}")).collect()),
        planned.mac.to_string(),
        list(planned.gateways.iter().map(ToString::to_string).collect()),
    ]
}

fn dash() -> String {
    "-".to_owned()
}

/// What the lab did: frames by port, drops by cause.
fn summary(lab: &mut Lab, ports: &[LivePort]) -> Result<String, Error> {
    let mut text = String::from("\n");
    if !ports.is_empty() {
        let header = ["PORT", "FRAMES-IN", "FRAMES-OUT", "NOT-READ", "NOT-SENT"];
        let row = |p: &LivePort| {
            let counts = [p.received, p.sent, p.refused(), p.unsent].map(|n| n.to_string());
            [vec![p.name.clone()], counts.to_vec()].concat()
        };
        text += &aligned(header.map(str::to_owned).to_vec(), ports.iter().map(row).collect());
    }
    let all = lab.worker().accounting();
    text += &format!(
        "{} frames in, {} out, {} dropped in {:.1} s\n",
        all.received,
        all.delivered,
        all.dropped,
        lab.now().0 as f64 / 1e9
    );
    let drops = drops(lab);
    if !drops.is_empty() {
        text += &render(&drops, Format::Table)?;
    }
    if lab.cut_off() > 0 {
        text += &format!("{} frames were thrown away in a storm\n", lab.cut_off());
    }
    Ok(text)
}
