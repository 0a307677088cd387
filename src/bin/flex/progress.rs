//! A sign of life for work that takes over a second.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Draws a bar on stderr from the first second on, until it is dropped. Draws nothing where stderr is no terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
    stop: Option<Sender<()>>,
    painter: Option<JoinHandle<()>>,
}

impl Progress {
    /// A bar of `steps`; a single step is drawn as a spinner.
    pub(crate) fn new(steps: usize, message: impl Into<String>) -> Self {
        let bar = ProgressBar::with_draw_target(Some(steps as u64), ProgressDrawTarget::hidden());
        let template = match steps {
            1 => "{spinner} {msg} {elapsed}",
            _ => "{bar:24} {pos}/{len} {msg} {elapsed}",
        };
        bar.set_style(ProgressStyle::with_template(template).expect("the template is valid"));
        bar.set_message(message.into());
        let (stop, stopped) = channel();
        let painted = bar.clone();
        let painter = std::thread::spawn(move || {
            if stopped.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                painted.set_draw_target(ProgressDrawTarget::stderr());
                painted.enable_steady_tick(Duration::from_millis(120));
            }
        });
        Self { bar, stop: Some(stop), painter: Some(painter) }
    }

    /// Says what the current step is.
    pub(crate) fn step(&self, message: impl Into<String>) {
        self.bar.set_message(message.into());
    }

    /// One more step is done.
    pub(crate) fn done(&self) {
        self.bar.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(painter) = self.painter.take() {
            let _ = painter.join();
        }
        self.bar.finish_and_clear();
    }
}
