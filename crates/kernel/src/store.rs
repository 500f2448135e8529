//! Kernels on disk: a folder for each, named by the hash of what is in it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::KernelError;
use crate::image::{Image, is_image};
use crate::modules::{self, Config, Module};
use crate::package::{self, MAX_PACKAGE, Package};

/// What was not finished for so long never will be.
const ABANDONED: Duration = Duration::from_secs(3600);
const ABOUT: &str = "kernel.json";
const BZIMAGE: &str = "vmlinuz";
const ELF: &str = "vmlinux";
const MODULES: &str = "modules";

/// What is written beside a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    release: String,
    /// Name of the file that it came in.
    source: String,
    /// Whether its configuration was there to be looked at.
    checked: bool,
    /// The modules, in the order in which they are loaded.
    modules: Vec<String>,
    /// Hash of each file.
    sha256: BTreeMap<String, String>,
}

/// A kernel that machines can boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    id: String,
    directory: PathBuf,
    about: About,
}

/// The kernels of one folder.
#[derive(Clone, Debug)]
pub struct Kernels {
    directory: PathBuf,
}

fn file_error<'a>(step: &'static str, path: &'a Path) -> impl Fn(io::Error) -> KernelError + 'a {
    move |source| KernelError::File { step, path: path.to_owned(), source }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a kernel is made of, before it is stored.
#[derive(Debug)]
pub(crate) struct Ingredients {
    image: Image,
    release: String,
    source: String,
    checked: bool,
    modules: Vec<Module>,
}

// === impl Ingredients ===

impl Ingredients {
    /// Takes a file apart; `extra` are modules that come from elsewhere.
    pub(crate) fn from_bytes(
        source: &str,
        bytes: &[u8],
        extra: Option<BTreeMap<String, Vec<u8>>>,
    ) -> Result<Self, KernelError> {
        let mut package = if package::is_package(bytes) {
            Package::parse(bytes)?
        } else if is_image(bytes) {
            Package { image: bytes.to_vec(), ..Package::default() }
        } else {
            return Err(KernelError::NotAKernel(source.to_owned()));
        };
        package.modules.extend(extra.unwrap_or_default());
        let image = Image::parse(package.image)?;
        let modules = modules::in_order(&package.modules)?;
        if let Some(config) = &package.config {
            modules::check(&Config(config), &modules)?;
        }
        let release = package.release.or_else(|| image.release()).unwrap_or_else(|| "unknown".to_owned());
        Ok(Self { image, release, source: source.to_owned(), checked: package.config.is_some(), modules })
    }

    /// The files to store, by name.
    fn files(&self) -> Vec<(String, &[u8])> {
        let mut files: Vec<(String, &[u8])> = vec![(ELF.to_owned(), &self.image.elf)];
        if let Some(bzimage) = &self.image.bzimage {
            files.push((BZIMAGE.to_owned(), bzimage));
        }
        for (number, module) in self.modules.iter().enumerate() {
            files.push((format!("{MODULES}/{number:02}-{}.ko", module.name), &module.bytes));
        }
        files
    }
}

// === impl Kernels ===

impl Kernels {
    /// Where kernels are kept: where `HEARTH_KERNELS` says, else for the machine if root does it, else for the user.
    #[must_use]
    pub fn default_home() -> PathBuf {
        if let Some(told) = std::env::var_os("HEARTH_KERNELS").filter(|told| !told.is_empty()) {
            return PathBuf::from(told);
        }
        if rustix::process::geteuid().is_root() {
            return PathBuf::from("/var/lib/hearth/kernels");
        }
        let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let data = data.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share")));
        data.unwrap_or_else(std::env::temp_dir).join("hearth/kernels")
    }

    /// Uses `directory`, and removes what was never finished there.
    ///
    /// # Errors
    /// When it cannot be made or read.
    pub fn open(directory: PathBuf) -> Result<Self, KernelError> {
        fs::create_dir_all(&directory).map_err(file_error("make the folder", &directory))?;
        for entry in fs::read_dir(&directory).map_err(file_error("read", &directory))?.flatten() {
            let age = entry
                .metadata()
                .and_then(|meta| meta.modified())
                .map(|time| time.elapsed().unwrap_or_default());
            // A younger one may be another process's, which is at it.
            if age.is_ok_and(|age| age > ABANDONED)
                && entry.path().extension().is_some_and(|end| end == "new")
            {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(Self { directory })
    }

    /// Adds a kernel from a `.deb` package or an image: bzImage or ELF, as it is or compressed. Modules that are not in
    /// the package come from `modules`, a folder. One that is there already is only made the newest.
    ///
    /// # Errors
    /// When the file is none, or lacks what guests need, or cannot be stored. Nothing is left then.
    pub fn add(&self, file: &Path, modules: Option<&Path>) -> Result<Kernel, KernelError> {
        let size = fs::metadata(file).map_err(file_error("read", file))?.len();
        if size > MAX_PACKAGE {
            return Err(KernelError::TooLarge { what: "file", limit_mb: MAX_PACKAGE >> 20 });
        }
        let bytes = fs::read(file).map_err(file_error("read", file))?;
        let extra = match modules {
            Some(path) => Some(package::modules_below(path).map_err(file_error("read modules in", path))?),
            None => None,
        };
        let source = file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        self.store(&Ingredients::from_bytes(&source, &bytes, extra)?)
    }

    fn store(&self, made: &Ingredients) -> Result<Kernel, KernelError> {
        let files = made.files();
        let sha256: BTreeMap<String, String> =
            files.iter().map(|(name, bytes)| (name.clone(), hex(&Sha256::digest(bytes)))).collect();
        let mut whole = Sha256::new();
        for (name, hash) in &sha256 {
            whole.update(format!("{name} {hash}\n"));
        }
        let id = hex(&whole.finalize()).chars().take(16).collect::<String>();
        let about = About {
            release: made.release.clone(),
            source: made.source.clone(),
            checked: made.checked,
            modules: made.modules.iter().map(|module| module.name.clone()).collect(),
            sha256,
        };
        let (new, directory) =
            (self.directory.join(format!("{id}.{}.new", std::process::id())), self.directory.join(&id));
        let _ = fs::remove_dir_all(&new);
        let stored = write_all(&new, &files, &about).and_then(|()| {
            let _ = fs::remove_dir_all(&directory);
            fs::rename(&new, &directory)
        });
        if stored.is_err() {
            let _ = fs::remove_dir_all(&new);
        }
        stored.map_err(file_error("store the kernel in", &directory))?;
        Ok(Kernel { id, directory, about })
    }

    /// All, the one added last first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(&self) -> Result<Vec<Kernel>, KernelError> {
        let entries = fs::read_dir(&self.directory).map_err(file_error("read", &self.directory))?;
        let mut all: Vec<(SystemTime, Kernel)> = entries
            .flatten()
            .filter_map(|entry| {
                let id = entry.file_name().to_str()?.to_owned();
                let about = entry.path().join(ABOUT);
                let added = fs::metadata(&about).and_then(|about| about.modified()).ok()?;
                let about = serde_json::from_slice(&fs::read(&about).ok()?).ok()?;
                Some((added, Kernel { id, directory: entry.path(), about }))
            })
            .collect();
        all.sort_by(|(a, one), (b, other)| b.cmp(a).then_with(|| one.id.cmp(&other.id)));
        Ok(all.into_iter().map(|(_, kernel)| kernel).collect())
    }

    /// The one that machines boot: that added last.
    ///
    /// # Errors
    /// When there is none.
    pub fn newest(&self) -> Result<Kernel, KernelError> {
        self.list()?.into_iter().next().ok_or(KernelError::None)
    }

    /// Removes one, named by its id or the only beginning of one.
    ///
    /// # Errors
    /// When there is none of that id.
    pub fn remove(&self, id: &str) -> Result<Kernel, KernelError> {
        let mut found: Vec<Kernel> =
            self.list()?.into_iter().filter(|kernel| kernel.id.starts_with(id)).collect();
        match (found.pop(), found.is_empty()) {
            (Some(kernel), true) if !id.is_empty() => {
                fs::remove_dir_all(&kernel.directory).map_err(file_error("remove", &kernel.directory))?;
                Ok(kernel)
            }
            _ => Err(KernelError::Unknown(id.to_owned())),
        }
    }
}

fn write_all(directory: &Path, files: &[(String, &[u8])], about: &About) -> io::Result<()> {
    fs::create_dir_all(directory.join(MODULES))?;
    let write = |name: &str, bytes: &[u8]| -> io::Result<()> {
        let mut file = File::create_new(directory.join(name))?;
        file.write_all(bytes)?;
        // A VMM of another user reads it.
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        file.sync_all()
    };
    for (name, bytes) in files {
        write(name, bytes)?;
    }
    write(ABOUT, &serde_json::to_vec_pretty(about)?)
}

// === impl Kernel ===

impl Kernel {
    /// Its name: the beginning of the hash of all that it is.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it calls itself, as `uname -r`.
    #[must_use]
    pub fn release(&self) -> &str {
        &self.about.release
    }

    /// Name of the file that it came in.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.about.source
    }

    /// The modules that a guest loads, in that order.
    #[must_use]
    pub fn modules(&self) -> &[String] {
        &self.about.modules
    }

    /// Whether its configuration was looked at: a bare image has none.
    #[must_use]
    pub fn was_checked(&self) -> bool {
        self.about.checked
    }

    /// The bzImage, if it came as one.
    #[must_use]
    pub fn vmlinuz(&self) -> Option<PathBuf> {
        self.about.sha256.contains_key(BZIMAGE).then(|| self.directory.join(BZIMAGE))
    }

    /// The ELF.
    #[must_use]
    pub fn vmlinux(&self) -> PathBuf {
        self.directory.join(ELF)
    }

    /// Looks whether all files are what was stored.
    ///
    /// # Errors
    /// When one is not.
    pub fn verify(&self) -> Result<(), KernelError> {
        self.about.sha256.keys().try_for_each(|name| self.read(name).map(drop))
    }

    /// The archive that it finds its first process, `agent`, and its modules in.
    ///
    /// # Errors
    /// When a module is not what was stored.
    pub fn initramfs(&self, agent: &[u8]) -> Result<Vec<u8>, KernelError> {
        let mut modules = Vec::new();
        for (number, name) in self.about.modules.iter().enumerate() {
            let bytes = self.read(&format!("{MODULES}/{number:02}-{name}.ko"))?;
            modules.push(Module { name: name.clone(), bytes });
        }
        Ok(crate::initramfs::build(agent, &modules))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, KernelError> {
        let damaged = || KernelError::Damaged { id: self.id.clone(), file: name.to_owned() };
        let path = self.directory.join(name);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(damaged()),
            read => read.map_err(file_error("read", &path))?,
        };
        let expected = self.about.sha256.get(name).ok_or_else(damaged)?;
        if *expected == hex(&Sha256::digest(&bytes)) { Ok(bytes) } else { Err(damaged()) }
    }
}

#[cfg(test)]
mod tests;
