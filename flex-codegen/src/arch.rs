//! GPU architectures, as NVRTC names them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A target of the compiler: compute capability, and whether the code may use what only this very architecture has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Arch {
    /// The major part of the compute capability.
    pub major: u32,
    /// The minor part of the compute capability.
    pub minor: u32,
    /// The `a` of `sm_90a`: instructions that exist on this architecture alone.
    pub specific: bool,
}

impl Arch {
    /// The oldest architecture with cp.async and bf16: what every kernel needs.
    pub const OLDEST: Self = Self { major: 8, minor: 0, specific: false };

    /// The architectures that every kernel is compile-checked for.
    pub const CHECKED: [Self; 7] = [
        Self::OLDEST,
        Self { major: 8, minor: 6, specific: false },
        Self { major: 8, minor: 9, specific: false },
        Self { major: 9, minor: 0, specific: true },
        Self { major: 10, minor: 0, specific: true },
        Self { major: 12, minor: 0, specific: true },
        Self { major: 12, minor: 1, specific: true },
    ];

    /// The best target for a device of the given compute capability.
    pub const fn of_device(major: u32, minor: u32) -> Self {
        Self { major, minor, specific: major >= 9 }
    }

    /// Whether kernels exist for it.
    pub fn is_supported(self) -> bool {
        (self.major, self.minor) >= (Self::OLDEST.major, Self::OLDEST.minor)
    }

    /// The dynamic shared memory that a block may ask for on devices of this architecture, in bytes: for plans made
    /// without a device.
    pub const fn smem_limit(self) -> u32 {
        match (self.major, self.minor) {
            (8, 0 | 7) => 163 << 10,
            (9..=11, _) => 227 << 10,
            _ => 99 << 10,
        }
    }

    /// Whether the Hopper kernels (TMA, wgmma) run on it.
    pub fn is_hopper(self) -> bool {
        self.major == 9 && self.minor == 0 && self.specific
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sm_{}{}{}", self.major, self.minor, if self.specific { "a" } else { "" })
    }
}

/// A text that names no architecture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no GPU architecture, expected one like sm_80, sm_90a or sm_120a")]
pub struct ParseArchError(String);

impl FromStr for Arch {
    type Err = ParseArchError;

    fn from_str(text: &str) -> Result<Self, ParseArchError> {
        let error = || ParseArchError(text.into());
        let digits = text.strip_prefix("sm_").ok_or_else(error)?;
        let (digits, specific) = match digits.strip_suffix('a') {
            Some(digits) => (digits, true),
            None => (digits, false),
        };
        let number: u32 = digits.parse().map_err(|_| error())?;
        match number {
            10..1000 => Ok(Self { major: number / 10, minor: number % 10, specific }),
            _ => Err(error()),
        }
    }
}

impl TryFrom<String> for Arch {
    type Error = ParseArchError;
    fn try_from(text: String) -> Result<Self, ParseArchError> {
        text.parse()
    }
}

impl From<Arch> for String {
    fn from(arch: Arch) -> Self {
        arch.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for arch in Arch::CHECKED {
            assert_eq!(arch.to_string().parse(), Ok(arch));
        }
        assert_eq!(Arch::of_device(9, 0).to_string(), "sm_90a");
        assert_eq!(Arch::of_device(8, 6).to_string(), "sm_86");
        for wrong in ["", "sm_", "90", "sm_9", "sm_x0", "compute_90"] {
            assert!(wrong.parse::<Arch>().is_err(), "{wrong}");
        }
    }
}
