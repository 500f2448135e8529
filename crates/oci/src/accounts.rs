//! Whom an image's `USER` means: what its own `/etc/passwd` and `/etc/group` say, which are as hostile as all of it.
//!
//! The files are looked for as overlayfs would show them, uppermost layer first; links in a layer are followed within it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::OciError;
use crate::error::shown;

/// The most of each file that is read; far more than any machine's.
const FILE_BYTES: u64 = 1 << 20;
/// The most groups of one user.
const GROUPS: usize = 64;
/// Docker's limit; greater ones mean nobody to the kernel.
const MAX_ID: u32 = i32::MAX.cast_unsigned();
/// Where an overlay's layer says that it hides all below: as root, and as anybody else.
const OPAQUE: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];

/// Who runs an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its number.
    pub uid: u32,
    /// Its first group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Its home directory.
    pub home: String,
}

/// The users and groups of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    users: Vec<User>,
    groups: Vec<Group>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

// === impl Accounts ===

impl Accounts {
    /// Reads an image's, whose layers as directories these are, the uppermost first. What is not there or not readable says nothing.
    #[must_use]
    pub fn read(layers: &[PathBuf]) -> Self {
        let text = |name| find(layers, name).unwrap_or_default();
        Self::parse(&text("passwd"), &text("group"))
    }

    fn parse(passwd: &str, group: &str) -> Self {
        let user = |line: &str| {
            let fields: Vec<_> = line.split(':').collect();
            let [name, _, uid, gid, _, home, ..] = fields[..] else { return None };
            Some(User { name: name.to_owned(), uid: id(uid)?, gid: id(gid)?, home: home.to_owned() })
        };
        let group_of = |line: &str| {
            let fields: Vec<_> = line.split(':').collect();
            let [name, _, gid, members, ..] = fields[..] else { return None };
            let members = members.split(',').map(|member| member.trim().to_owned()).collect();
            Some(Group { name: name.to_owned(), gid: id(gid)?, members })
        };
        Self {
            users: passwd.lines().filter_map(user).collect(),
            groups: group.lines().filter_map(group_of).collect(),
        }
    }

    /// Whom `USER[:GROUP]` means, names or numbers, as Docker takes it: empty is the root user, and a number need not be any user's.
    ///
    /// # Errors
    /// A name that the image does not have.
    pub fn find(&self, user: &str) -> Result<Account, OciError> {
        let (user, group) = user.split_once(':').map_or((user, None), |(user, group)| (user, Some(group)));
        let user = if user.is_empty() { "0" } else { user };
        let unknown = |what: &str, name: &str, file: &str| {
            let problem = format!("{} is no {what} of its {file}", shown(name.as_bytes()));
            OciError::invalid("the image's USER", problem)
        };
        let by_name = self.users.iter().find(|known| known.name == user);
        let known = by_name.or_else(|| self.users.iter().find(|known| Some(known.uid) == id(user)));
        let uid = known.map(|known| known.uid).or_else(|| id(user));
        let uid = uid.ok_or_else(|| unknown("user", user, "/etc/passwd"))?;
        let home = known.map_or("/", |known| &known.home).to_owned();
        if let Some(group) = group.filter(|group| !group.is_empty()) {
            let named = self.groups.iter().find(|known| known.name == group).map(|known| known.gid);
            let gid = named.or_else(|| id(group)).ok_or_else(|| unknown("group", group, "/etc/group"))?;
            return Ok(Account { uid, gid, groups: Vec::new(), home });
        }
        let member = |known: &&Group| {
            let user = self.users.iter().find(|user| user.uid == uid);
            user.is_some_and(|user| known.members.contains(&user.name))
        };
        let groups = self.groups.iter().filter(member).map(|known| known.gid).take(GROUPS).collect();
        Ok(Account { uid, gid: known.map_or(0, |known| known.gid), groups, home })
    }

    /// All ids of users and groups.
    #[must_use]
    pub fn ids(&self) -> BTreeSet<u32> {
        let users = self.users.iter().flat_map(|user| [user.uid, user.gid]);
        users.chain(self.groups.iter().map(|group| group.gid)).collect()
    }
}

fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id <= MAX_ID)
}

/// The text of `/etc/NAME` of the uppermost layer that has a word in it.
fn find(layers: &[PathBuf], name: &str) -> Option<String> {
    for layer in layers {
        match look(layer, name) {
            Ok(Some(text)) => return Some(text),
            Ok(None) => {}
            Err(_says_no) => return None,
        }
    }
    None
}

/// The file, if the layer has it; nothing if a lower one may; an error if there is none whatever those have.
fn look(layer: &Path, name: &str) -> Result<Option<String>, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let root = rustix::fs::open(layer, flags | OFlags::DIRECTORY, Mode::empty())?;
    match rustix::fs::statat(&root, "etc", AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(None),
        found => found?,
    };
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let open = |path: &str, more| rustix::fs::openat2(&root, path, flags | more, Mode::empty(), within);
    let etc = open("etc", OFlags::DIRECTORY)?;
    let file = match open(&format!("etc/{name}"), OFlags::empty()) {
        Err(Errno::NOENT) if !is_opaque(etc.as_fd()) => return Ok(None),
        opened => File::from(opened?),
    };
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES).read_to_end(&mut bytes).map_err(|_| Errno::IO)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

fn is_opaque(directory: impl AsFd) -> bool {
    let mut value = [0; 1];
    OPAQUE.iter().any(|name| {
        rustix::fs::fgetxattr(&directory, *name, &mut value[..]).is_ok_and(|length| length == 1)
            && value == *b"y"
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\nwww-data:x:33:33::/var/www:\nbroken\n";
    const GROUP: &str = "root:x:0:\nwww-data:x:33:node\nextra:x:2000:root, node\n";

    fn account(user: &str) -> Result<(u32, u32, Vec<u32>, String), String> {
        let found = Accounts::parse(PASSWD, GROUP).find(user).map_err(|error| error.to_string())?;
        Ok((found.uid, found.gid, found.groups, found.home))
    }

    #[test]
    fn a_user_is_found_by_name_or_number_with_its_groups_and_home() {
        assert_eq!(account(""), Ok((0, 0, vec![2_000], "/root".to_owned())));
        assert_eq!(account("node"), Ok((1_000, 1_000, vec![33, 2_000], "/home/node".to_owned())));
        assert_eq!(account("1000"), account("node"));
        assert_eq!(account("4242"), Ok((4_242, 0, vec![], "/".to_owned())));
        assert_eq!(account("node:www-data"), Ok((1_000, 33, vec![], "/home/node".to_owned())));
        assert_eq!(account("7:8"), Ok((7, 8, vec![], "/".to_owned())));
    }

    #[test]
    fn a_name_that_the_image_does_not_have_is_an_error_that_says_it() {
        assert!(account("nobody").unwrap_err().contains("\"nobody\" is no user of its /etc/passwd"));
        assert!(account("node:none").unwrap_err().contains("\"none\" is no group of its /etc/group"));
        for nonsense in ["-1", "4294967295", "1 ", "\u{1b}[2J"] {
            assert!(account(nonsense).is_err(), "{nonsense:?}");
        }
    }

    #[test]
    fn files_are_found_as_the_layers_show_them_and_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        let [upper, lower] = ["upper", "lower"].map(|name| directory.path().join(name));
        fs::create_dir_all(lower.join("etc")).unwrap();
        fs::create_dir_all(&upper).unwrap();
        fs::write(lower.join("etc/passwd"), PASSWD).unwrap();
        fs::write(directory.path().join("secret"), "thief:x:1:1::/:\n").unwrap();
        let layers = [upper.clone(), lower];
        let users = || Accounts::read(&layers).users.len();
        assert_eq!(users(), 3);
        fs::create_dir(upper.join("etc")).unwrap();
        assert_eq!(users(), 3);
        symlink("../../secret", upper.join("etc/passwd")).unwrap();
        assert_eq!(users(), 3, "a link that leads nowhere in its layer says nothing");
        fs::remove_file(upper.join("etc/passwd")).unwrap();
        fs::create_dir(upper.join("etc/passwd")).unwrap();
        assert_eq!(users(), 0, "what is no file hides what is below");
        fs::remove_dir(upper.join("etc/passwd")).unwrap();
        rustix::fs::setxattr(upper.join("etc"), OPAQUE[1], b"y", rustix::fs::XattrFlags::empty()).unwrap();
        assert_eq!(users(), 0, "an opaque directory hides what is below");
    }
}
