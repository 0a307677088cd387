//! What the program prints: JSON for machines, text for people.

use std::fmt::Display;
use std::io::Write;

use serde::Serialize;

use crate::error::ProgramError;

/// Prints results in the form that was asked for.
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a report: its fields as one line of JSON, or its text.
    pub(crate) fn print(&mut self, report: &(impl Serialize + Display)) -> Result<(), ProgramError> {
        if self.json { self.json(report) } else { self.text(report) }
    }

    /// Prints one line of JSON.
    pub(crate) fn json(&mut self, report: &impl Serialize) -> Result<(), ProgramError> {
        let line = serde_json::to_string(report).expect("reports are maps of numbers and strings");
        writeln!(std::io::stdout(), "{line}").map_err(ProgramError::Write)
    }

    /// Prints text.
    pub(crate) fn text(&mut self, report: &impl Display) -> Result<(), ProgramError> {
        writeln!(std::io::stdout(), "{report}").map_err(ProgramError::Write)
    }

    /// Prints what went wrong: on stderr, and as `{"error": …}` where JSON was asked for.
    pub(crate) fn error(&mut self, error: &ProgramError) {
        eprintln!("error: {error}");
        if self.json {
            // The status says that it failed; a closed stdout must not hide it.
            let _ = self.json(&serde_json::json!({ "error": error.to_string() }));
        }
    }
}
