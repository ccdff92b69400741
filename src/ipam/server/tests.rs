//! The socket, called as Docker does and as nobody should.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::*;

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

struct Served {
    _folder: tempfile::TempDir,
    path: PathBuf,
    stop: watch::Sender<bool>,
    /// A word for each question whose answer has begun.
    begun: mpsc::Receiver<()>,
    thread: JoinHandle<bool>,
}

/// Serves answers that take so long and say what was asked.
fn served(pause: Duration) -> std::result::Result<Served, Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path)?;
    let (stop, stopped) = watch::channel(false);
    let (begins, begun) = mpsc::channel();
    let answer = move |path: &str, body: &[u8]| {
        let _ = begins.send(());
        std::thread::sleep(pause);
        Reply { status: StatusCode::OK, body: format!("{path} {}", body.len()) }
    };
    let thread = std::thread::spawn(move || serve(listener, Arc::new(answer), stopped).is_ok());
    Ok(Served { _folder: folder, path, stop, begun, thread })
}

impl Served {
    fn send(&self, bytes: &[u8]) -> std::io::Result<String> {
        send(&self.path, bytes)
    }
    fn end(self) -> bool {
        // It may have been told already, and be gone by now.
        let _ = self.stop.send(true);
        self.thread.join().unwrap_or(false)
    }
}

fn send(path: &Path, bytes: &[u8]) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    // It may have been refused before all of it was read.
    let _ = stream.write_all(bytes);
    let mut text = String::new();
    match stream.read_to_string(&mut text) {
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(e) => return Err(e),
    }
    Ok(text)
}

fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nHost: \r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[test]
fn a_question_is_answered_and_the_connection_closed() -> Outcome {
    let served = served(Duration::ZERO)?;
    let text = served.send(&post("/Plugin.Activate", b"{}"))?;
    assert!(
        text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\n/Plugin.Activate 2"),
        "{text}"
    );
    assert!(text.contains("content-type: application/vnd.docker.plugins.v1.2+json"), "{text}");
    assert!(served.end());
    Ok(())
}

#[test]
fn garbage_is_refused_and_the_next_question_answered() -> Outcome {
    let served = served(Duration::ZERO)?;
    let long = post("/x", &vec![b' '; BODY + 1]);
    let wide = format!("POST /x HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(HEAD + 1));
    for (bytes, status) in [
        (&b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"[..], "405"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400"),
        (b"POST /x HTTP/9.9\r\n\r\n", "400"),
        (b"POST /x HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "400"),
        (b"POST /x HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", "400"),
        (b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400"),
        (&long, "413"),
        (wide.as_bytes(), "431"),
    ] {
        let text = served.send(bytes)?;
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {text:?}");
    }
    assert!(served.send(&post("/y", b""))?.ends_with("/y 0"));
    assert!(served.end());
    Ok(())
}

#[test]
fn one_that_sends_nothing_holds_up_nobody_and_is_let_go() -> Outcome {
    let served = served(Duration::ZERO)?;
    let idle: Vec<_> = (0..8).map(|_| UnixStream::connect(&served.path)).collect::<std::io::Result<_>>()?;
    assert!(served.send(&post("/x", b""))?.ends_with("/x 0"));
    let began = std::time::Instant::now();
    for mut stream in idle {
        stream.set_read_timeout(Some(HEAD_TIME * 2))?;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest)?;
    }
    assert!(began.elapsed() < HEAD_TIME * 2);
    assert!(served.end());
    Ok(())
}

#[test]
fn more_than_there_is_room_for_wait_their_turn() -> Outcome {
    let served = served(Duration::from_millis(5))?;
    let answered = AtomicUsize::new(0);
    let (path, count) = (&served.path, &answered);
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS + 40 {
            scope.spawn(move || {
                if send(path, &post("/x", b"")).is_ok_and(|text| text.ends_with("/x 0")) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(answered.load(Ordering::Relaxed), CONNECTIONS + 40);
    assert!(served.end());
    Ok(())
}

#[test]
fn what_was_asked_before_the_end_is_answered() -> Outcome {
    let served = served(Duration::from_millis(400))?;
    std::thread::scope(|scope| {
        let path = &served.path;
        let asked = scope.spawn(move || send(path, &post("/x", b"")));
        let begun = served.begun.recv_timeout(Duration::from_secs(20));
        let _ = served.stop.send(true);
        assert!(begun.is_ok());
        assert!(asked.join().is_ok_and(|text| text.is_ok_and(|t| t.ends_with("/x 0"))));
    });
    assert!(served.end());
    Ok(())
}
