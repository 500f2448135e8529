//! Certificates from an authority (ACME, RFC 8555): ordered when there is none, and again in good time before they end.
//!
//! The authority asks on port 80 of each name whether it leads here (http-01), and the frontend answers. Account and certificate are
//! kept in the data folder, so that a restart orders nothing.
//!
//! | module | concern |
//! |---|---|
//! | `renewal` | when the next order is due |
//! | `order` | one order, and the account |
//! | `files` | what is kept |

mod files;
mod order;
mod renewal;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use hearth_frontend::{Certificates, Challenges};

use files::Files;
use order::Authority;
use renewal::Backoff;

/// The longest sleep: a clock that is set is noticed by then.
const LONGEST_SLEEP: Duration = Duration::from_secs(3_600);
/// Names that one certificate may have. Source: Let's Encrypt, "Rate Limits".
const MOST_NAMES: usize = 100;

/// How `hearth dev` gets certificates by itself.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct AcmeArgs {
    /// Names to get a certificate for, with commas between; each must lead here, on port 80
    #[arg(long, env = "HEARTH_ACME_DOMAINS", value_name = "NAME", value_delimiter = ',', value_parser = name,
          requires_all = ["tls_listen", "data", "acme_accept_terms"], conflicts_with = "tls_cert")]
    acme_domain: Vec<String>,
    /// The authority that certifies them
    #[arg(long, env = "HEARTH_ACME_DIRECTORY", value_name = "URL", requires = "acme_domain",
          default_value = instant_acme::LetsEncrypt::Production.url())]
    acme_directory: String,
    /// Where the authority may write to you
    #[arg(long, env = "HEARTH_ACME_CONTACT", value_name = "EMAIL", requires = "acme_domain")]
    acme_contact: Option<String>,
    /// Certificates to know the authority's own server by, PEM [default: the machine's]
    #[arg(long, env = "HEARTH_ACME_CA", value_name = "FILE", requires = "acme_domain")]
    acme_ca: Option<PathBuf>,
    /// You agree to the authority's terms of service
    #[arg(long, env = "HEARTH_ACME_ACCEPT_TERMS", requires = "acme_domain")]
    acme_accept_terms: bool,
}

impl AcmeArgs {
    /// Whether certificates are wanted.
    pub(crate) fn wanted(&self) -> bool {
        !self.acme_domain.is_empty()
    }
}

/// A name that can be certified by asking it.
fn name(text: &str) -> Result<String, String> {
    let name = text.trim().trim_end_matches('.').to_ascii_lowercase();
    if name.starts_with("*.") {
        return Err("a wildcard cannot be certified by asking it over HTTP; list its names".to_owned());
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_address = name.parse::<std::net::IpAddr>().is_ok();
    if name.len() > 253 || !name.contains('.') || !name.split('.').all(label) || is_address {
        return Err("it must be a domain name such as shop.example.com".to_owned());
    }
    Ok(name)
}

/// Gets and renews the certificate of a server.
pub(crate) struct Acme {
    names: Vec<String>,
    authority: Authority,
    files: Files,
}

impl Acme {
    /// # Errors
    /// Too many names, a folder or a file of certificates that cannot be used.
    pub(crate) fn new(args: &AcmeArgs, folder: PathBuf) -> anyhow::Result<Self> {
        let mut names = args.acme_domain.clone();
        names.sort();
        names.dedup();
        anyhow::ensure!(
            names.len() <= MOST_NAMES,
            "--acme-domain: a certificate has at most {MOST_NAMES} names, not {}",
            names.len()
        );
        let files = Files::open(folder).context("cannot use the folder of certificates")?;
        let contact = args.acme_contact.as_ref().map(|address| format!("mailto:{address}"));
        let authority = Authority::new(args.acme_directory.clone(), contact, args.acme_ca.as_deref())?;
        Ok(Self { names, authority, files })
    }

    /// The certificate, ordered if there is none that is good; tried until there is one.
    pub(crate) async fn first(&self, challenges: &Challenges) -> Arc<Certificates> {
        let mut backoff = Backoff::default();
        loop {
            let problem = match self.serve_kept() {
                Ok(Some(certificates)) => return certificates,
                Ok(None) => match self.renew(challenges).await {
                    Ok(()) => continue,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            let wait = backoff.next();
            let (problem, again) = (format!("{problem:#}"), wait.as_secs());
            tracing::error!(
                problem, names = ?self.names, again,
                "there is no certificate; HTTPS waits for one, tried again in so many seconds"
            );
            tokio::time::sleep(wait).await;
        }
    }

    /// Renews the certificate whenever it is time, for as long as it is polled.
    pub(crate) async fn keep(&self, challenges: &Challenges, certificates: &Certificates) {
        let mut backoff = Backoff::default();
        loop {
            let due = self.files.validity().map_or(0, renewal::due);
            let left = Duration::from_secs(due.saturating_sub(now()));
            if !left.is_zero() {
                tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
                continue;
            }
            let problem = match self.renew(challenges).await {
                // One that is due at once again is a failure, too: the authority is not to be asked without end.
                Ok(()) if self.files.validity().map_or(0, renewal::due) > now() => {
                    backoff = Backoff::default();
                    match certificates.reload() {
                        Ok(()) => {
                            tracing::info!(names = ?self.names, "serving a renewed certificate");
                            continue;
                        }
                        Err(error) => anyhow::Error::from(error),
                    }
                }
                Ok(()) => {
                    let _ = certificates.reload();
                    anyhow::anyhow!("the authority's new certificate is due for renewal already")
                }
                Err(error) => error,
            };
            let wait = backoff.next();
            let (problem, again) = (format!("{problem:#}"), wait.as_secs());
            tracing::warn!(
                problem, names = ?self.names, again,
                "the certificate is not renewed; the one before serves on, tried again in so many seconds"
            );
            tokio::time::sleep(wait).await;
        }
    }

    /// What is kept, if it is for these names and not over.
    fn serve_kept(&self) -> anyhow::Result<Option<Arc<Certificates>>> {
        if !self.files.are_for(&self.names, now()) {
            return Ok(None);
        }
        let path = self.files.certificate();
        Ok(Some(Arc::new(Certificates::open(path.clone(), path)?)))
    }

    async fn renew(&self, challenges: &Challenges) -> anyhow::Result<()> {
        let account = self.authority.account(&self.files).await?;
        let (key, chain) = self.authority.order(&account, &self.names, challenges).await?;
        self.files.keep(&key, &chain).context("cannot keep the new certificate")?;
        tracing::info!(names = ?self.names, "the authority certified the names");
        Ok(())
    }
}

/// Seconds since the Unix epoch.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn names_are_those_that_can_be_asked() {
        assert_eq!(name(" Shop.Example.com. ").unwrap(), "shop.example.com");
        for bad in ["", "localhost", "*.example.com", "a..b", "-a.b", "a_b.c", "192.0.2.1", "a/b.c", "a b.c"]
        {
            assert!(name(bad).is_err(), "{bad}");
        }
        assert!(name(&format!("{}.example.com", "x".repeat(64))).is_err());
    }
}
