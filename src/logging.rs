//! Where the log goes: journald, else syslog, else a file that is turned over when it is full.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Mutex;

use log::{Level, LevelFilter, Log, Metadata, Record};

/// A log file is turned over at this size in bytes, one old one is kept.
const FILE_LIMIT: u64 = 4 << 20;

/// Sends the log to where the host keeps logs. Never fails: a program without a log is better than none.
pub fn start() {
    let level = match std::env::var("HYBRID_LOG").as_deref() {
        Ok("debug") => LevelFilter::Debug,
        Ok("error") => LevelFilter::Error,
        _ => LevelFilter::Info,
    };
    log::set_max_level(level);
    if let Ok(journal) = systemd_journal_logger::JournalLog::new()
        && journal.with_syslog_identifier("hybrid-hook".to_owned()).install().is_ok()
    {
        return;
    }
    let sink = match UnixDatagram::unbound().and_then(|s| s.connect("/dev/log").map(|()| s)) {
        Ok(socket) => Sink::Syslog(socket),
        Err(_) => Sink::File(Mutex::new("/var/log/hybrid-hook.log".into())),
    };
    let _ = log::set_boxed_logger(Box::new(sink));
}

/// Sends the log to standard error as well as it can: for the service in the foreground.
pub fn start_on_stderr() {
    log::set_max_level(LevelFilter::Info);
    let _ = log::set_boxed_logger(Box::new(Sink::Stderr));
}

enum Sink {
    Stderr,
    Syslog(UnixDatagram),
    File(Mutex<PathBuf>),
}

impl Log for Sink {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // One event, one line: text from outside may hold line ends.
        let text = record.args().to_string().replace(['\n', '\r'], " ");
        let result = match self {
            Self::Stderr => writeln!(std::io::stderr(), "{}: {text}", record.level().as_str().to_lowercase()),
            Self::Syslog(socket) => {
                // RFC 3164, section 4.1.1: facility daemon (3) times 8, and the severity.
                let severity = match record.level() {
                    Level::Error => 3,
                    Level::Warn => 4,
                    Level::Info => 6,
                    Level::Debug | Level::Trace => 7,
                };
                let line = format!("<{}>hybrid-hook[{}]: {text}", 24 + severity, std::process::id());
                socket.send(line.as_bytes()).map(drop)
            }
            Self::File(path) => path.lock().map_or(Ok(()), |path| {
                if std::fs::metadata(&*path).is_ok_and(|m| m.len() > FILE_LIMIT) {
                    std::fs::rename(&*path, path.with_extension("log.1"))?;
                }
                let now = jiff::Timestamp::now();
                let mut file = OpenOptions::new().append(true).create(true).open(&*path)?;
                writeln!(file, "{now:.3} {} [{}] {text}", record.level(), std::process::id())
            }),
        };
        // There is nowhere left to say that the log can't be written.
        drop(result);
    }

    fn flush(&self) {}
}
