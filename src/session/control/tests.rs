use super::*;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// Unmounted as soon as somebody says so.
struct Plain(Arc<AtomicBool>);

impl Respond for Plain {
    fn serving(&self) -> Value {
        json!({ "pid": 1 })
    }
    fn command(&self) -> Option<Value> {
        None
    }
    fn is_mounted(&self) -> bool {
        !self.0.load(Ordering::SeqCst)
    }
    fn unmounted(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
    fn status(&self, most: usize) -> Result<Value, String> {
        Ok(json!({ "most": most }))
    }
    fn changes(&self, each: &mut EachChange<'_>) -> Result<Value, ChangesError> {
        let long = vec![7; 5 << 20];
        for (number, values) in [
            [None, Some(&b"a\nb"[..])],
            [Some(&long[..]), None],
            [None, None],
        ]
        .into_iter()
        .enumerate()
        {
            each(json!(number), values).map_err(ChangesError::Io)?;
        }
        Err(ChangesError::Told("page 7\x1b[2J".to_owned()))
    }
}

/// A mount with a device number that no file system has.
fn mount(minor: u32) -> Mount {
    let user = nix::unistd::geteuid();
    Mount {
        id: 0,
        device: Device {
            major: 4000 + std::process::id(),
            minor,
        },
        point: PathBuf::new(),
        fstype: String::new(),
        source: PathBuf::new(),
        super_options: format!("rw,user_id={user}"),
    }
}

fn start(mount: &Mount) -> (Server, Arc<AtomicBool>) {
    let unmounted = Arc::new(AtomicBool::default());
    let server = Server::start(mount.device, Box::new(Plain(Arc::clone(&unmounted)))).unwrap();
    (server, unmounted)
}

#[test]
fn who_waits_is_told_and_the_name_is_free_again() {
    let mount = mount(1);
    let (server, unmounted) = start(&mount);
    let mut plain = Client::connect(&mount).unwrap();
    plain.wait(false, None).unwrap();
    let mut discarding = Client::connect(&mount).unwrap();
    discarding.wait(true, None).unwrap();
    plain.unmounted();
    let _idle = Client::connect(&mount).unwrap();

    let waiters = server.end();
    assert!(matches!(Client::connect(&mount), Err(Unreachable::Nobody)));
    start(&mount).0.end();
    assert!(waiters.want_discard());
    let report = Report {
        failed: true,
        message: "a\nb \"c\"".to_owned(),
    };
    assert!(waiters.tell(&report));
    assert_eq!(plain.report().unwrap(), report);
    assert_eq!(discarding.report().unwrap(), report);
    // Nobody answers this message: it is dealt with when the thread of its connection runs.
    let late = Instant::now() + Duration::from_secs(10);
    while !unmounted.load(Ordering::SeqCst) {
        assert!(Instant::now() < late, "nobody was told of the unmount");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn who_goes_away_no_longer_decides() {
    let mount = mount(2);
    let (server, _) = start(&mount);
    let mut client = Client::connect(&mount).unwrap();
    client.wait(true, None).unwrap();
    drop(client);
    let gone = Instant::now() + Duration::from_secs(10);
    while !server.shared.waiting.is_empty() {
        assert!(
            Instant::now() < gone,
            "still waiting for a closed connection"
        );
        thread::sleep(Duration::from_millis(5));
    }
    assert!(!server.end().want_discard());
}

#[test]
fn nonsense_is_answered_with_an_error_and_an_end_without_report_is_one() {
    let mount = mount(3);
    let (server, _) = start(&mount);
    let mut client = Client::connect(&mount).unwrap();
    send(&mut client.requests, &[&json!({ "request": "dance" })]).unwrap();
    assert_eq!(
        client.answer().unwrap(),
        json!({ "error": "no such request" })
    );
    client.wait(false, None).unwrap();
    let waiters = server.end();
    client.requests.shutdown(std::net::Shutdown::Write).unwrap();
    drop(waiters);
    assert_eq!(
        client.report().unwrap_err().kind(),
        io::ErrorKind::UnexpectedEof
    );
}

#[test]
fn changes_come_with_their_values() {
    let mount = mount(5);
    let (server, _) = start(&mount);
    let mut client = Client::connect(&mount).unwrap();
    assert_eq!(client.status(7).unwrap(), json!({ "most": 7 }));
    let mut told = Vec::new();
    let end = client.changes(&mut |change, sides| {
        let lens = sides.map(|side| side.map(|side| side.length()));
        told.push((change.clone(), lens));
        Ok(())
    });
    assert_eq!(end.unwrap_err().to_string(), "page 7^[[2J");
    let wanted = [
        (json!(0), [None, Some(3)]),
        (json!(1), [Some(5 << 20), None]),
        (json!(2), [None, None]),
    ];
    assert_eq!(told, wanted);
    // The conversation goes on.
    assert_eq!(client.status(0).unwrap(), json!({ "most": 0 }));
    server.end();
}

#[test]
fn a_server_of_another_user_is_not_believed() {
    let mut mount = mount(4);
    let (server, _) = start(&mount);
    mount.super_options = "rw,user_id=12345".to_owned();
    let result = Client::connect(&mount);
    // Root is believed by everybody.
    match nix::unistd::geteuid().as_raw() {
        0 => assert!(result.is_ok()),
        me => assert!(matches!(result, Err(Unreachable::Impostor { user }) if user == me)),
    }
    server.end();
}

/// Each has the turn alone, and the next one has it when the one before is done; or hears the report, if that did it.
#[test]
fn those_who_unmount_take_turns() {
    let mount = mount(6);
    let (server, _) = start(&mount);
    let connect = || {
        let mut client = Client::connect(&mount).unwrap();
        client.wait(false, None).unwrap();
        client
    };
    let soon = Some(Duration::from_millis(100));
    let mut first = connect();
    assert_eq!(first.turn(None).unwrap(), None);
    let mut second = connect();
    let waiting = second.turn(soon).unwrap_err();
    assert_eq!(waiting.kind(), io::ErrorKind::WouldBlock);
    second.requests.set_read_timeout(None).unwrap();
    drop(first);
    // The answer to the request that was given up comes now.
    assert_eq!(second.answer().unwrap(), json!({ "turn": true }));
    let mut third = connect();
    let shared = Arc::clone(&server.shared);
    let done = Report {
        failed: false,
        message: "done".to_owned(),
    };
    thread::scope(|scope| {
        let waiting = scope.spawn(|| third.turn(None).unwrap());
        thread::sleep(Duration::from_millis(50));
        assert!(server.end().tell(&done));
        assert_eq!(waiting.join().unwrap(), Some(done.clone()));
    });
    assert_eq!(second.report().unwrap(), done);
    // One that asks after the report hears it at once.
    let (ours, theirs) = UnixStream::pair().unwrap();
    let late = Waiter {
        number: 99,
        stream: theirs,
        discard: true,
    };
    shared.waiting.add(late, &json!({ "serving": {} })).unwrap();
    let mut late = Client {
        requests: ours.try_clone().unwrap(),
        answers: BufReader::new(ours),
        discard: true,
    };
    assert_eq!(late.answer().unwrap(), json!({ "serving": {} }));
    let too_late = Report {
        failed: true,
        message: "NOT DISCARDED, for somebody else had unmounted before: done".to_owned(),
    };
    assert_eq!(late.report().unwrap(), too_late);
}

/// Whose patience for the turn was at an end waits for the report as long as it takes.
#[test]
fn a_turn_that_did_not_come_in_time_does_not_hurry_the_report() {
    let mount = mount(7);
    let (server, unmounted) = start(&mount);
    let mut first = Client::connect(&mount).unwrap();
    first.wait(false, None).unwrap();
    assert!(first.turn(None).unwrap().is_none());
    let patience = Duration::from_millis(20);
    let mut second = Client::connect(&mount).unwrap();
    second.wait(false, Some(Duration::from_secs(60))).unwrap();
    let late = second.turn(Some(patience)).unwrap_err();
    assert_eq!(late.kind(), io::ErrorKind::WouldBlock);

    let report = thread::spawn(move || second.report());
    thread::sleep(patience * 10);
    unmounted.store(true, Ordering::SeqCst);
    let told = Report {
        failed: false,
        message: "committed".to_owned(),
    };
    server.end().tell(&told);
    let heard = report.join().unwrap().unwrap();
    assert_eq!((heard.failed, heard.message), (false, told.message));
}
