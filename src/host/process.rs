//! Runs another program: no shell, a bounded wait, only our own child is ever ended.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::deadline::Deadline;
use crate::model::{Fault, Result};

/// The most that is read of a program's output; the rest is thrown away.
const OUTPUT_LIMIT: u64 = 64 << 20;

/// How a program ended.
#[derive(Debug)]
pub struct Output {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// What it complained about, as text, trimmed.
    pub stderr: String,
}

impl Output {
    /// Whether it ended with 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }
}

/// Runs `program` to its end, or ends it when the deadline passes. Its environment is ours, with
/// `LC_ALL=C` so that its messages can be read. A missing program is [`crate::model::Kind::Missing`].
pub fn run<S: AsRef<OsStr>>(program: &str, args: &[S], input: &[u8], deadline: Deadline) -> Result<Output> {
    let mut child = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Fault::missing(format!("the program {program} is not installed")),
            _ => Fault::failed(format!("cannot run {program}")).because(e),
        })?;
    // Threads, because a child that fills one pipe while we serve another would wait for ever.
    let stdin = child.stdin.take();
    let input = input.to_vec();
    std::thread::spawn(move || {
        if let Some(mut pipe) = stdin {
            // A child that does not read its input is not wrong; its exit code tells.
            let _ = pipe.write_all(&input);
        }
    });
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);
    let code = wait(&mut child, program, deadline)?;
    let gather = |from: Option<std::sync::mpsc::Receiver<Vec<u8>>>| {
        // A grandchild may hold the pipe open after the child's end: no longer than a moment.
        from.and_then(|r| r.recv_timeout(Duration::from_millis(500)).ok()).unwrap_or_default()
    };
    let stdout = gather(stdout);
    let stderr = String::from_utf8_lossy(&gather(stderr)).trim().to_owned();
    Ok(Output { code, stdout, stderr })
}

/// As [`run`]; any end but exit code 0 is a fault that carries the program's own words.
pub fn run_ok<S: AsRef<OsStr>>(
    program: &str,
    args: &[S],
    input: &[u8],
    deadline: Deadline,
) -> Result<Vec<u8>> {
    let output = run(program, args, input, deadline)?;
    if output.success() {
        return Ok(output.stdout);
    }
    let words: Vec<_> = args.iter().map(|a| a.as_ref().to_string_lossy().into_owned()).collect();
    let end = output.code.map_or_else(|| "a signal".to_owned(), |c| format!("exit code {c}"));
    let complaint = output.stderr.lines().next().unwrap_or("it said nothing").to_owned();
    Err(Fault::failed(format!("{program} {} ended with {end}: {complaint}", words.join(" "))))
}

fn collect(pipe: impl Read + Send + 'static) -> std::sync::mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let mut pipe = pipe;
        let _ = (&mut pipe).take(OUTPUT_LIMIT).read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

fn wait(child: &mut Child, program: &str, deadline: Deadline) -> Result<Option<i32>> {
    let mut pause = Duration::from_micros(300);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status.code()),
            Ok(None) if deadline.passed() => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Fault::failed(format!("{program} did not end in time and was stopped")));
            }
            Ok(None) => {
                std::thread::sleep(pause.min(deadline.left()));
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            Err(e) => return Err(Fault::failed(format!("cannot wait for {program}")).because(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(10))
    }

    #[test]
    fn output_input_and_exit_code_come_back() -> Result<()> {
        let output = run("sh", &["-c", "cat; echo no >&2; exit 3"], b"hello", soon())?;
        assert_eq!(
            (output.code, output.stdout.as_slice(), output.stderr.as_str()),
            (Some(3), &b"hello"[..], "no")
        );
        Ok(())
    }

    #[test]
    fn a_child_that_hangs_is_ended_at_the_deadline() {
        let short = Deadline::after(Duration::from_millis(50));
        let error = run("sleep", &["60"], b"", short).err().map(|e| e.to_string());
        assert_eq!(error.as_deref(), Some("sleep did not end in time and was stopped"));
    }

    #[test]
    fn a_missing_program_is_missing() {
        let kind = run("no-such-program-here", &[""; 0], b"", soon()).err().map(|e| e.kind());
        assert_eq!(kind, Some(crate::model::Kind::Missing));
    }
}
