//! One order, from the names to their certificate, and the account that it is made with.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use hearth_frontend::Challenges;
use http::Request;
use http_body_util::Limited;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeType, Error,
    HttpClient, Identifier, NewAccount, NewOrder, OrderStatus, RetryPolicy,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::files::Files;

/// An order takes seconds; one that takes longer hangs.
const ORDER: Duration = Duration::from_secs(300);
/// One answer of the authority.
const ANSWER: Duration = Duration::from_secs(30);
/// An authority's answers are a few kilobytes, and a chain of certificates at most tens of them.
const MOST_BYTES: usize = 1 << 20;

/// Who certifies.
pub(super) struct Authority {
    directory: String,
    contact: Option<String>,
    http: Https,
}

/// Answers that are given while this is there.
struct Answers<'a> {
    challenges: &'a Challenges,
    tokens: Vec<String>,
}

impl Drop for Answers<'_> {
    fn drop(&mut self) {
        self.tokens.iter().for_each(|token| self.challenges.remove(token));
    }
}

impl Authority {
    pub(super) fn new(directory: String, contact: Option<String>, ca: Option<&Path>) -> anyhow::Result<Self> {
        Ok(Self { directory, contact, http: Https::new(ca)? })
    }

    /// The account that is kept, or a new one, which is kept.
    pub(super) async fn account(&self, files: &Files) -> anyhow::Result<Account> {
        let builder = || Account::builder_with_http(Box::new(self.http.clone()));
        let refused = || format!("the authority at {} gives no account", self.directory);
        if let Some(text) = files.account().context("cannot read the account at the authority")? {
            let kept: AccountCredentials = serde_json::from_str(&text).context(
                "the account at the authority that is kept in acme/account.json cannot be read; remove it to make another",
            )?;
            let kept = tokio::time::timeout(ORDER, builder().from_credentials(kept)).await;
            return kept.map_err(anyhow::Error::from)?.with_context(refused);
        }
        let contact: Vec<&str> = self.contact.iter().map(String::as_str).collect();
        let new =
            NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let made = builder().create(&new, self.directory.clone(), None);
        let made = tokio::time::timeout(ORDER, made).await.map_err(anyhow::Error::from)?;
        let (account, credentials) = made.with_context(refused)?;
        let text = serde_json::to_string(&credentials).context("cannot write the account down")?;
        files.keep_account(&text).context("cannot keep the account at the authority")?;
        Ok(account)
    }

    /// A key and the chain that certifies it for those names.
    pub(super) async fn order(
        &self,
        account: &Account,
        names: &[String],
        challenges: &Challenges,
    ) -> anyhow::Result<(String, String)> {
        let ordered = tokio::time::timeout(ORDER, try_order(account, names, challenges)).await;
        ordered.map_err(|_| anyhow::anyhow!("the order is not done after {} s", ORDER.as_secs()))?
    }
}

async fn try_order(
    account: &Account,
    names: &[String],
    challenges: &Challenges,
) -> anyhow::Result<(String, String)> {
    let identifiers: Vec<_> = names.iter().map(|name| Identifier::Dns(name.clone())).collect();
    let order = account.new_order(&NewOrder::new(&identifiers)).await;
    let mut order = order.context("the authority takes no order")?;
    let mut answers = Answers { challenges, tokens: Vec::new() };
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.context("the authority does not say what it asks")?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let name = authorization.identifier().to_string();
        let challenge = authorization.challenge(ChallengeType::Http01);
        let mut challenge =
            challenge.with_context(|| format!("the authority does not ask {name} over HTTP (http-01)"))?;
        challenges.put(&challenge.token, challenge.key_authorization().as_str());
        answers.tokens.push(challenge.token.clone());
        let told = challenge.set_ready().await;
        told.with_context(|| format!("the authority does not find this server at http://{name}/"))?;
    }
    let retries = RetryPolicy::new().timeout(ORDER);
    match order.poll_ready(&retries).await.context("the authority does not certify the names")? {
        OrderStatus::Ready => {}
        status => anyhow::bail!(
            "the authority does not certify the names ({status:?}): does each lead to this server, on port 80?"
        ),
    }
    drop(answers);
    let key = order.finalize().await.context("the authority does not take the request for a certificate")?;
    let chain = order.poll_certificate(&retries).await.context("the authority gives no certificate")?;
    Ok((key, chain))
}

/// HTTPS to the authority, bounded in time and bytes.
#[derive(Clone)]
struct Https(HyperClient<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>);

impl Https {
    fn new(ca: Option<&Path>) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = HttpsConnectorBuilder::new();
        let builder = match ca {
            None => builder
                .with_provider_and_native_roots(provider)
                .context("this machine has no root certificates")?,
            Some(path) => {
                let file = || format!("cannot use the certificates in {} (--acme-ca)", path.display());
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_file_iter(path).with_context(file)? {
                    roots.add(certificate.with_context(file)?).with_context(file)?;
                }
                let config =
                    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
                let config = config.with_context(file)?.with_root_certificates(roots).with_no_client_auth();
                builder.with_tls_config(config)
            }
        };
        let connector = builder.https_only().enable_http1().build();
        Ok(Self(HyperClient::builder(TokioExecutor::new()).build(connector)))
    }
}

impl HttpClient for Https {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let answer = self.0.request(request);
        Box::pin(async move {
            match tokio::time::timeout(ANSWER, answer).await {
                Ok(Ok(response)) => Ok(response.map(|body| Limited::new(body, MOST_BYTES)).into()),
                Ok(Err(error)) => Err(Error::Other(Box::new(error))),
                Err(late) => Err(Error::Other(Box::new(late))),
            }
        })
    }
}
