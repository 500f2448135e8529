//! What is kept of an authority: the account's key, and the certificate with its own.
//!
//! Key and chain are one file, replaced in one step, so that a crash leaves the old pair or the new one.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use x509_parser::pem::Pem;
use x509_parser::prelude::GeneralName;

use super::renewal::Validity;
use crate::secret_file;

const ACCOUNT: &str = "account.json";
const CERTIFICATE: &str = "certificate.pem";

/// A folder that nobody else reads.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
}

impl Files {
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Self { folder })
    }

    /// Where the certificate is, and its key.
    pub(super) fn certificate(&self) -> PathBuf {
        self.folder.join(CERTIFICATE)
    }

    /// What was kept of an account.
    pub(super) fn account(&self) -> io::Result<Option<String>> {
        match fs::read_to_string(self.folder.join(ACCOUNT)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn keep_account(&self, text: &str) -> io::Result<()> {
        secret_file::replace(&self.folder.join(ACCOUNT), text.as_bytes(), true)
    }

    pub(super) fn keep(&self, key: &str, chain: &str) -> io::Result<()> {
        secret_file::replace(&self.certificate(), format!("{key}\n{chain}").as_bytes(), true)
    }

    /// How long the certificate holds, if there is one.
    pub(super) fn validity(&self) -> Option<Validity> {
        self.leaf().map(|(validity, _)| validity)
    }

    /// Whether the certificate is for those names, all and no others, and is not over.
    pub(super) fn are_for(&self, names: &[String], now: u64) -> bool {
        self.leaf().is_some_and(|(validity, certified)| validity.until > now && certified == names)
    }

    /// The validity and the names, in order, of the certificate.
    fn leaf(&self) -> Option<(Validity, Vec<String>)> {
        let text = fs::read(self.certificate()).ok()?;
        let mut parts = Pem::iter_from_buffer(&text).filter_map(Result::ok);
        let leaf = parts.find(|part| part.label == "CERTIFICATE")?;
        let leaf = leaf.parse_x509().ok()?;
        let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
        let validity = leaf.validity();
        let validity = Validity { from: seconds(validity.not_before), until: seconds(validity.not_after) };
        let names = leaf.subject_alternative_name().ok()??;
        let name = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        };
        let mut names: Vec<String> = names.value.general_names.iter().filter_map(name).collect();
        names.sort();
        Some((validity, names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path().join("acme")).unwrap();
        assert_eq!((files.account().unwrap(), files.validity()), (None, None));
        files.keep("not a key", "not a certificate").unwrap();
        assert!(files.validity().is_none() && !files.are_for(&[], 0));
        files.keep_account("{}").unwrap();
        assert_eq!(files.account().unwrap().as_deref(), Some("{}"));
        let kept = fs::read_dir(folder.path().join("acme")).unwrap();
        assert_eq!(kept.count(), 2, "no temporary file stays");
    }
}
