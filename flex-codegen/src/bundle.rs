//! Kernels compiled ahead of time: a folder with a manifest and one cubin a kernel, for programs that run without NVRTC.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::CompiledKernel;

const MANIFEST: &str = "manifest.json";
const FORMAT: u32 = 1;

/// Why a bundle could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file could not be read or written.
    #[error("{} could not be read or written: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The manifest is not one.
    #[error("{} is no manifest of kernels, {source}: write the bundle anew", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The manifest is of another version of this crate.
    #[error("{} has format {got}, expected {FORMAT}: write the bundle anew", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        got: u32,
    },
    /// A cubin is not the one that was written.
    #[error("{} does not match its hash in the manifest: write the bundle anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// A kernel in the manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    /// What the kernel is, for people.
    describe: String,
    /// Of the cubin, blake3 in hexadecimal.
    hash: String,
    kernel: CompiledKernel,
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    kernels: Vec<Entry>,
}

/// What manifests of all formats have.
#[derive(Debug, Deserialize)]
struct Format {
    format: u32,
}

/// Kernels by key.
#[derive(Clone, Debug, Default)]
pub struct Bundle {
    kernels: BTreeMap<String, (String, Arc<CompiledKernel>)>,
}

impl Bundle {
    /// An empty bundle.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a kernel; `describe` says what it is in listings.
    pub fn insert(&mut self, describe: impl Into<String>, kernel: Arc<CompiledKernel>) {
        self.kernels.insert(kernel.key.clone(), (describe.into(), kernel));
    }

    /// The kernel with the given key.
    pub fn get(&self, key: &str) -> Option<&Arc<CompiledKernel>> {
        self.kernels.get(key).map(|(_, kernel)| kernel)
    }

    /// Descriptions and kernels, by key.
    pub fn kernels(&self) -> impl Iterator<Item = (&str, &Arc<CompiledKernel>)> {
        self.kernels.values().map(|(describe, kernel)| (describe.as_str(), kernel))
    }

    /// Writes the bundle into a folder, which is made if it is not there.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, dir: &Path) -> Result<(), BundleError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| BundleError::Io { path, source }
        };
        fs::create_dir_all(dir).map_err(at(dir))?;
        let mut kernels = Vec::new();
        for (describe, kernel) in self.kernels.values() {
            let path = cubin_path(dir, &kernel.key);
            fs::write(&path, &kernel.cubin).map_err(at(&path))?;
            let hash = blake3::hash(&kernel.cubin).to_hex().to_string();
            kernels.push(Entry { describe: describe.clone(), hash, kernel: (**kernel).clone() });
        }
        let path = dir.join(MANIFEST);
        let text = serde_json::to_string_pretty(&Manifest { format: FORMAT, kernels })
            .map_err(|source| BundleError::Manifest { path: path.clone(), source })?;
        fs::write(&path, text + "\n").map_err(at(&path))
    }

    /// Reads a bundle.
    ///
    /// # Errors
    /// If a file is missing or is not what the manifest says.
    pub fn read(dir: &Path) -> Result<Self, BundleError> {
        let path = dir.join(MANIFEST);
        let text = fs::read(&path).map_err(|source| BundleError::Io { path: path.clone(), source })?;
        let no_manifest = |source| BundleError::Manifest { path: path.clone(), source };
        // Before the rest is read, which other formats have in another form.
        let Format { format } = serde_json::from_slice(&text).map_err(no_manifest)?;
        if format != FORMAT {
            return Err(BundleError::Format { path, got: format });
        }
        let manifest: Manifest = serde_json::from_slice(&text).map_err(no_manifest)?;
        let mut bundle = Self::new();
        for Entry { describe, hash, mut kernel } in manifest.kernels {
            let path = cubin_path(dir, &kernel.key);
            kernel.cubin =
                fs::read(&path).map_err(|source| BundleError::Io { path: path.clone(), source })?;
            if blake3::hash(&kernel.cubin).to_hex().as_str() != hash {
                return Err(BundleError::Damaged { path });
            }
            bundle.insert(describe, Arc::new(kernel));
        }
        Ok(bundle)
    }
}

fn cubin_path(dir: &Path, key: &str) -> PathBuf {
    // Keys are hexadecimal; a manifest that says otherwise must not lead out of the folder.
    let name: String = key.chars().filter(char::is_ascii_alphanumeric).collect();
    dir.join(format!("{name}.cubin"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::tests::sample;

    #[test]
    fn a_bundle_reads_back_and_notices_damage() {
        let dir = tempfile::tempdir().unwrap();
        let kernel = Arc::new(sample());
        let mut bundle = Bundle::new();
        bundle.insert("causal, sm_90a", kernel.clone());
        bundle.write(dir.path()).unwrap();
        let read = Bundle::read(dir.path()).unwrap();
        assert_eq!(read.get(&kernel.key), Some(&kernel));
        assert_eq!(read.kernels().next().map(|(describe, _)| describe), Some("causal, sm_90a"));

        fs::write(cubin_path(dir.path(), &kernel.key), b"something else").unwrap();
        assert!(matches!(Bundle::read(dir.path()), Err(BundleError::Damaged { .. })));
        fs::write(dir.path().join(MANIFEST), r#"{ "format": 0, "cubins": {} }"#).unwrap();
        assert!(matches!(Bundle::read(dir.path()), Err(BundleError::Format { got: 0, .. })));
        fs::write(dir.path().join(MANIFEST), "{}").unwrap();
        assert!(matches!(Bundle::read(dir.path()), Err(BundleError::Manifest { .. })));
        assert!(matches!(Bundle::read(&dir.path().join("nowhere")), Err(BundleError::Io { .. })));
    }
}
