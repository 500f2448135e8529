//! A guest's root: places to mount, settings that are nobody's, and of the host's programs those that scripts expect.
//!
//! The `container` driver shows functions all of the host's `/usr`. For an image of that size is too much, so a guest has
//! what Lambda's own minimal system has: a shell, the small tools, the C and C++ libraries, certificates and time zones.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::RootfsError;
use crate::error::file_error;
use crate::libraries::Closure;
use crate::tree::{identify, stage, walk};

/// The function's user and group, as in Lambda.
const FUNCTION_UID: u32 = 993;
const FUNCTION_GID: u32 = 990;
const DIRECTORIES: [&str; 16] = [
    "dev",
    "proc",
    "sys",
    "run",
    "tmp",
    "root",
    "opt",
    "home",
    "mnt",
    "var/task",
    "var/runtime",
    "var/lang",
    "var/tmp",
    "etc",
    "usr/bin",
    "usr/sbin",
];
/// Top-level names that are links into `/usr` on a merged system.
const ALIASES: [&str; 5] = ["bin", "sbin", "lib", "lib32", "lib64"];
/// Programs that scripts expect, where the host has them.
const PROGRAMS: &str = "sh bash dash env cat ls cp mv rm ln mkdir mkfifo rmdir chmod touch echo printf test true false sleep \
    head tail sort uniq wc cut tr tee seq date id uname hostname basename dirname readlink realpath mktemp df du stat \
    sed grep egrep awk mawk gawk find xargs tar gzip gunzip zcat expr od sha256sum md5sum base64 kill getent nproc whoami \
    yes which dd timeout pwd sync unzip ps free nohup comm join paste split stty tty openssl curl jq";
/// Libraries that what functions bring with them expects.
const LIBRARIES: &str = "libm.so.6 libdl.so.2 libpthread.so.0 librt.so.1 libutil.so.1 libresolv.so.2 libnss_dns.so.2 \
    libnss_files.so.2 libanl.so.1 libgcc_s.so.1 libstdc++.so.6 libssl.so.3 libcrypto.so.3 libz.so.1 libatomic.so.1 \
    libgomp.so.1";
/// Trees and files that are taken as they are, where the host has them.
const AS_THEY_ARE: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/openssl.cnf",
    "/etc/mime.types",
    "/usr/share/zoneinfo",
    "/usr/lib/locale/C.utf8",
    "/usr/lib/ssl",
];

/// The files of `/etc` that sandboxes of every driver have: names and contents.
#[must_use]
pub fn etc_files() -> Vec<(&'static str, String)> {
    let passwd = format!(
        "root:x:0:0:root:/root:/sbin/nologin\nsbx_user1051:x:{FUNCTION_UID}:{FUNCTION_GID}::/home/sbx_user1051:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n"
    );
    vec![
        ("passwd", passwd),
        ("group", format!("root:x:0:\nsbx_user1051:x:{FUNCTION_GID}:\nnogroup:x:65534:\n")),
        ("hosts", "127.0.0.1 localhost sandbox.localdomain sandbox\n".to_owned()),
        ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n".to_owned()),
        ("resolv.conf", String::new()),
        ("host.conf", "multi on\n".to_owned()),
    ]
}

/// Prefixes that a whole system is installed in, not an interpreter alone.
const SYSTEM_PREFIXES: [&str; 3] = ["/", "/usr", "/usr/local"];
/// What of such a prefix is an interpreter's: directory, and how names in it begin.
const INTERPRETERS: [(&str, &str); 8] = [
    ("bin", "python3"),
    ("bin", "node"),
    ("lib", "python3"),
    ("lib64", "python3"),
    ("lib", "node_modules"),
    ("lib/x86_64-linux-gnu", "nodejs"),
    ("lib/aarch64-linux-gnu", "nodejs"),
    ("share", "nodejs"),
];

/// The directories and files that make up a runtime's prefix: the prefix itself, unless a whole system is in it.
pub(crate) fn of_prefix(source: &Path, target: &str) -> Vec<(PathBuf, String)> {
    if !SYSTEM_PREFIXES.iter().any(|prefix| source == Path::new(prefix)) {
        return vec![(source.to_owned(), target.to_owned())];
    }
    let mut found = Vec::new();
    for (directory, beginning) in INTERPRETERS {
        let mut names: Vec<_> = fs::read_dir(source.join(directory))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        names.sort();
        for name in names {
            let name = name.to_string_lossy();
            if name.starts_with(beginning) {
                let path = source.join(directory).join(&*name);
                // A link to a name beside it stays one; what another points to takes its place.
                let stays = fs::read_link(&path).is_ok_and(|link| link.components().count() == 1);
                let real = if stays { Ok(path) } else { fs::canonicalize(path) };
                found.extend(real.ok().map(|real| (real, format!("{target}/{directory}/{name}"))));
            }
        }
    }
    found
}

/// What of the host goes into a root.
#[derive(Debug)]
pub(crate) struct Base {
    files: Vec<PathBuf>,
    trees: Vec<PathBuf>,
}

// === impl Base ===

impl Base {
    /// Looks at the host, and at what the runtime's binaries below `runtime` need of it.
    pub(crate) fn look(runtime: &[(PathBuf, String)]) -> Result<Self, RootfsError> {
        let mut closure = Closure::new();
        let mut files = Vec::new();
        for name in PROGRAMS.split_whitespace() {
            let places = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(|place| Path::new(place).join(name));
            if let Some(path) = places.into_iter().find(|path| path.is_file()) {
                closure.add(&path);
                files.push(path);
            }
        }
        for name in LIBRARIES.split_whitespace() {
            if let Some(path) = closure.add_library(name) {
                closure.add(&path);
            }
        }
        for (source, _) in runtime {
            walk(source, &mut |path, meta| {
                let named_so = path.file_name().is_some_and(|name| name.to_string_lossy().contains(".so"));
                if meta.is_file() && (named_so || meta.permissions().mode() & 0o111 != 0) {
                    closure.add(path);
                }
                Ok(())
            })?;
        }
        files.extend(closure.paths().map(Path::to_owned));
        files.sort();
        files.dedup();
        let trees = AS_THEY_ARE.iter().map(PathBuf::from).filter(|path| path.exists()).collect();
        Ok(Self { files, trees })
    }

    /// Adds what makes a root another one.
    pub(crate) fn identify(&self, hash: &mut Sha256) -> Result<(), RootfsError> {
        for path in &self.files {
            hash.update(path.as_os_str().as_encoded_bytes());
            let real = fs::canonicalize(path).map_err(file_error("find", path))?;
            identify(&real, hash)?;
        }
        for path in &self.trees {
            hash.update(path.as_os_str().as_encoded_bytes());
            identify(path, hash)?;
        }
        Ok(())
    }

    /// Puts it all together below `root`.
    pub(crate) fn stage(&self, root: &Path) -> Result<(), RootfsError> {
        for name in DIRECTORIES {
            let path = root.join(name);
            fs::create_dir_all(&path).map_err(file_error("make", &path))?;
        }
        for name in ALIASES {
            let host = Path::new("/").join(name);
            let place = root.join(name);
            match fs::read_link(&host) {
                Ok(target) => {
                    let inside = root.join(target.strip_prefix("/").unwrap_or(&target));
                    fs::create_dir_all(&inside).map_err(file_error("make", &inside))?;
                    symlink(target, &place).map_err(file_error("make", &place))?;
                }
                Err(_) if host.is_dir() => {
                    fs::create_dir_all(&place).map_err(file_error("make", &place))?;
                }
                Err(_) => {}
            }
        }
        for (name, text) in etc_files() {
            let path = root.join("etc").join(name);
            let written = fs::write(&path, text)
                .and_then(|()| fs::File::open(&path))
                .and_then(|file| file.set_modified(SystemTime::UNIX_EPOCH));
            written.map_err(file_error("write", &path))?;
        }
        for path in &self.files {
            let real = fs::canonicalize(path).map_err(file_error("find", path))?;
            let place = inside(root, path)?;
            if !place.exists() {
                stage(&real, &place)?;
            }
        }
        for path in &self.trees {
            stage(path, &inside(root, path)?)?;
        }
        let zone = root.join("etc/localtime");
        symlink("/usr/share/zoneinfo/UTC", &zone).map_err(file_error("make", &zone))?;
        linker_cache(root);
        for (path, mode) in [("tmp", 0o1777), ("var/tmp", 0o1777), ("root", 0o700)] {
            let path = root.join(path);
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).map_err(file_error("open", &path))?;
        }
        Ok(())
    }
}

/// Where a file of the host's belongs below `root`: under its own name, in the directory that its directory really is.
fn inside(root: &Path, path: &Path) -> Result<PathBuf, RootfsError> {
    let (parent, name) =
        (path.parent().unwrap_or_else(|| Path::new("/")), path.file_name().unwrap_or_default());
    let parent = fs::canonicalize(parent).map_err(file_error("find", parent))?;
    Ok(root.join(parent.strip_prefix("/").unwrap_or(&parent)).join(name))
}

/// Libraries outside of the linker's standard places are found through its cache. Without the tool that makes it, those of
/// the standard places are found all the same.
fn linker_cache(root: &Path) {
    let conf = root.join("etc/ld.so.conf");
    let written = fs::read("/etc/ld.so.conf").and_then(|text| fs::write(&conf, text));
    let included = stage(Path::new("/etc/ld.so.conf.d"), &root.join("etc/ld.so.conf.d"));
    if written.is_err() || included.is_err() {
        return;
    }
    let made = std::process::Command::new("/sbin/ldconfig").arg("-X").arg("-r").arg(root).output();
    if !made.is_ok_and(|output| output.status.success()) {
        tracing::debug!("no linker cache in a guest's root");
    }
    for file in [root.join("etc/ld.so.cache"), conf] {
        let _ = fs::File::open(file).and_then(|file| file.set_modified(SystemTime::UNIX_EPOCH));
    }
}
