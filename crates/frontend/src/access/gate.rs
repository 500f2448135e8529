//! Whether a request is the holder's of the key that it names.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hearth_keys::{Asked, Claim, Credentials, Failures, Payload, Refusal, Sealer, Session, SigningKey, same};
use hearth_store::{Store, StoreError};
use hearth_types::{AccountId, Time};
use hyper::StatusCode;
use hyper::http::request::Parts;

use super::keys::{Keys, LiveKey};
use super::said::{basic, said};
use super::{AccessConfig, Caller};
use crate::Backend;
use crate::core::{Core, now_ms};
use crate::error::ApiError;

/// Guards all doors.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(super) keys: Keys,
    pub(super) sealer: Sealer,
    /// Once keys are asked for, they are until the process ends: a server does not open because its last key is removed.
    asks: AtomicBool,
    failures: Mutex<Failures>,
    epoch: Instant,
}

/// A sender whose request's body is not there yet.
#[derive(Debug)]
pub(crate) enum Pending {
    /// Keys are not asked for.
    Believed(Caller),
    /// What is to be verified.
    Signed(Box<Signed>),
}

/// A claim, and whose it would be.
#[derive(Debug)]
pub(crate) struct Signed {
    claim: Claim,
    key: Arc<LiveKey>,
    session: Option<Session>,
    address: IpAddr,
}

impl Pending {
    /// The account that is claimed, for what must be known of a request before its body.
    pub(crate) fn account(&self) -> &AccountId {
        match self {
            Self::Believed(caller) => &caller.account,
            Self::Signed(signed) => &signed.key.grant.account,
        }
    }
}

impl Gate {
    pub(crate) fn new(config: AccessConfig) -> Self {
        Self {
            keys: Keys::default(),
            sealer: config.sealer,
            asks: AtomicBool::new(config.always),
            failures: Mutex::new(Failures::new(config.failures_per_minute)),
            epoch: Instant::now(),
        }
    }

    /// Whether keys are asked for.
    pub(crate) fn asks(&self) -> bool {
        self.asks.load(Ordering::Acquire)
    }

    /// Asks for keys from now on.
    pub(super) fn close(&self) {
        self.asks.store(true, Ordering::Release);
    }

    /// Takes the keys that are kept; where there is one, keys are asked for.
    pub(crate) async fn load(&self, store: &dyn Store) -> Result<(), StoreError> {
        if self.keys.load(store, &self.sealer).await? > 0 {
            self.close();
        }
        Ok(())
    }

    /// Credentials until a second since 1970, for one who is then called `arn`. Where keys are not asked for they are nobody's, and
    /// who uses them acts for the same account as before. Nothing if the system has no random numbers.
    pub(crate) fn session(&self, caller: &Caller, arn: &str, until: u64) -> Option<Credentials> {
        let Some(parent) = caller.key() else {
            return Some(Credentials {
                key_id: caller.account.to_string(),
                secret: "hearth-placeholder-no-real-secret".to_owned(),
                token: Some("hearth-placeholder-no-real-token".to_owned()),
            });
        };
        let key_id = hearth_keys::session_key_id()?;
        let session = Session {
            parent: parent.to_owned(),
            secret: hearth_keys::secret()?,
            arn: arn.to_owned(),
            until: i64::try_from(until).ok()?,
        };
        let token = session.token(&key_id, &self.sealer)?;
        Some(Credentials { key_id, secret: session.secret, token: Some(token) })
    }

    fn now(&self) -> Time {
        Time::from_nanos(u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Whether an address may try.
    ///
    /// # Errors
    /// It has been wrong too often.
    pub(super) fn check_address(&self, address: IpAddr) -> Result<(), ApiError> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.is_blocked(self.now(), address) {
            let text = "Too many requests from this address had a wrong signature or key; try again later";
            return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "ThrottlingException", text));
        }
        Ok(())
    }

    /// Counts a failure, and says it. One who says nothing of a key has not guessed one.
    fn refused(&self, address: IpAddr, refusal: Refusal) -> ApiError {
        if refusal != Refusal::Missing {
            self.failures.lock().unwrap_or_else(PoisonError::into_inner).note(self.now(), address);
        }
        refusal.into()
    }

    fn read(
        &self,
        head: &Parts,
        services: &[&str],
        region: &str,
        address: IpAddr,
    ) -> Result<Signed, Refusal> {
        let claim = Claim::read(&Asked::of(head))?;
        let session = match claim.token() {
            None => None,
            Some(token) => {
                Some(Session::read(token, claim.key_id(), &self.sealer).ok_or(Refusal::Unrecognized)?)
            }
        };
        let id = session.as_ref().map_or_else(|| claim.key_id(), |session| &session.parent);
        let key = self.keys.get(id).filter(|key| !key.grant.disabled).ok_or(Refusal::Unrecognized)?;
        claim.check_scope(services, region)?;
        claim.check_time(seconds())?;
        Ok(Signed { claim, key, session, address })
    }
}

impl Signed {
    fn verify(&self, check: impl FnOnce(&SigningKey) -> Result<(), Refusal>) -> Result<Caller, Refusal> {
        let scope = self.claim.scope();
        let account = self.key.grant.account.clone();
        let (key_id, arn) = match &self.session {
            Some(session) => {
                check(&SigningKey::derive(&session.secret, scope))?;
                if session.until <= seconds() {
                    return Err(Refusal::Expired);
                }
                (self.claim.key_id().to_owned(), session.arn.clone())
            }
            None => {
                let signing = self.key.signing_key(scope);
                check(&signing)?;
                self.key.remember(scope, &signing);
                (self.key.id.clone(), arn(&self.key))
            }
        };
        if self.key.grant.has_expired(now_ms()) {
            return Err(Refusal::Expired);
        }
        Ok(Caller { account, key_id, arn, key: Some(Arc::clone(&self.key)) })
    }
}

/// Who holds a key, as an ARN.
fn arn(key: &LiveKey) -> String {
    let name = key.grant.name.as_deref().unwrap_or(&key.id);
    format!("arn:aws:iam::{}:user/{name}", key.grant.account)
}

fn seconds() -> i64 {
    i64::try_from(now_ms() / 1_000).unwrap_or(i64::MAX)
}

impl<B: Backend> Core<B> {
    /// Reads who a request says that it is from, for a door that is one of `services`.
    ///
    /// # Errors
    /// Keys are asked for, and it names none that could have signed it.
    pub(crate) fn claim(
        &self,
        head: &Parts,
        address: IpAddr,
        services: &[&str],
    ) -> Result<Pending, ApiError> {
        if !self.gate.asks() {
            return Ok(Pending::Believed(self.believed(head).0));
        }
        self.gate.check_address(address)?;
        let read = self.gate.read(head, services, &self.region, address);
        let signed = read.map_err(|refusal| self.gate.refused(address, refusal))?;
        Ok(Pending::Signed(Box::new(signed)))
    }

    /// The same, of a request that must be signed whether or not keys are asked for.
    ///
    /// # Errors
    /// It is not, or as above.
    pub(crate) fn claim_signed(&self, head: &Parts, address: IpAddr) -> Result<Pending, ApiError> {
        if !self.gate.asks() {
            let (caller, is_signed) = self.believed(head);
            return if is_signed { Ok(Pending::Believed(caller)) } else { Err(Refusal::Missing.into()) };
        }
        self.claim(head, address, &["lambda"])
    }

    /// Who a request says that it is from, and whether it has the form of one that is signed by an account.
    fn believed(&self, head: &Parts) -> (Caller, bool) {
        let said = said(&head.headers, head.uri.query().unwrap_or_default());
        let account = said.as_ref().and_then(|said| said.key_id.parse().ok());
        let is_signed = account.is_some() && said.as_ref().is_some_and(|said| said.is_signed);
        let account = account.unwrap_or_else(|| self.config.default_account.clone());
        (Caller::believed(account, said.map(|said| said.key_id).unwrap_or_default()), is_signed)
    }

    /// Whoever sent it, now that all of the request is there.
    ///
    /// # Errors
    /// The signature is another's.
    pub(crate) fn admit(&self, pending: Pending, body: &[u8]) -> Result<Caller, ApiError> {
        match pending {
            Pending::Believed(caller) => Ok(caller),
            Pending::Signed(signed) => signed
                .verify(|key| signed.claim.verify(key, body))
                .map_err(|refusal| self.gate.refused(signed.address, refusal)),
        }
    }

    /// Whoever sent a request whose body is passed on as it comes, and what that body must be.
    ///
    /// # Errors
    /// The signature is another's.
    pub(crate) fn admit_head(&self, pending: Pending) -> Result<(Caller, Payload), ApiError> {
        match pending {
            Pending::Believed(caller) => Ok((caller, Payload::Unsigned)),
            Pending::Signed(signed) => signed
                .verify(|key| signed.claim.verify_head(key))
                .map(|caller| (caller, signed.claim.payload().clone()))
                .map_err(|refusal| self.gate.refused(signed.address, refusal)),
        }
    }

    /// Whoever says the id and the secret of a key, as clients of registries and collectors of metrics do.
    ///
    /// # Errors
    /// Keys are asked for, and that is none.
    pub(crate) fn admit_basic(&self, head: &Parts, address: IpAddr) -> Result<Caller, ApiError> {
        if !self.gate.asks() {
            return Ok(self.believed(head).0);
        }
        self.gate.check_address(address)?;
        let checked = basic(&head.headers).ok_or(Refusal::Missing).and_then(|(id, secret)| {
            let key = self.gate.keys.get(&id).filter(|key| !key.grant.disabled);
            // A key that is not there takes as long as one whose secret is another.
            let is_right = same(key.as_ref().map_or("", |key| &key.secret), &secret);
            let key = key.filter(|_| is_right).ok_or(Refusal::Unrecognized)?;
            if key.grant.has_expired(now_ms()) { Err(Refusal::Expired) } else { Ok(key) }
        });
        let key = checked.map_err(|refusal| self.gate.refused(address, refusal))?;
        let (account, key_id) = (key.grant.account.clone(), key.id.clone());
        Ok(Caller { account, key_id, arn: arn(&key), key: Some(key) })
    }
}
