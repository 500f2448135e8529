//! An image's configuration: what it runs, and which archives its layers are.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{Digest, OciError};

/// The most bytes of a configuration.
pub(crate) const CONFIG_BYTES: u64 = 8 << 20;
/// What a program may be started with is bounded by what worker and sandbox say to each other in one message.
const START_BYTES: usize = 32 << 10;

/// What an image is, as its maker says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ImageConfig {
    /// `amd64`, `arm64`.
    #[serde(default)]
    pub architecture: String,
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// What it runs.
    #[serde(default, deserialize_with = "or_default")]
    pub config: RunConfig,
    /// Its layers.
    pub rootfs: RootFs,
}

/// What an image runs, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    /// Who runs it: names or numbers, `USER[:GROUP]`.
    #[serde(deserialize_with = "or_default")]
    pub user: String,
    /// `NAME=VALUE`.
    #[serde(deserialize_with = "or_default")]
    pub env: Vec<String>,
    /// What is run.
    #[serde(deserialize_with = "or_default")]
    pub entrypoint: Vec<String>,
    /// Arguments to that, or what is run if there is none.
    #[serde(deserialize_with = "or_default")]
    pub cmd: Vec<String>,
    /// Where it starts.
    #[serde(deserialize_with = "or_default")]
    pub working_dir: String,
    /// `8080/tcp` and such.
    #[serde(deserialize_with = "or_default")]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
    /// The signal that asks it to end.
    #[serde(deserialize_with = "or_default")]
    pub stop_signal: String,
}

/// The archives that an image's layers are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct RootFs {
    /// The hash of each layer's tar archive, the lowest first.
    #[serde(default, deserialize_with = "or_default")]
    pub diff_ids: Vec<Digest>,
}

/// Go's programs write `null` for what is empty.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

// === impl ImageConfig ===

impl ImageConfig {
    /// Reads a configuration.
    ///
    /// # Errors
    /// It is none, or no program could be started with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, OciError> {
        let wrong = |problem: String| OciError::invalid("the image's configuration", problem);
        let config: Self =
            serde_json::from_slice(bytes).map_err(|error| wrong(format!("it cannot be read: {error}")))?;
        let RunConfig { env, entrypoint, cmd, working_dir, user, .. } = &config.config;
        let texts = || env.iter().chain(entrypoint).chain(cmd).chain([working_dir, user]);
        if texts().any(|text| text.contains('\0')) {
            return Err(wrong("it has a NUL in it".to_owned()));
        }
        if texts().map(|text| text.len() + 1).sum::<usize>() > START_BYTES {
            return Err(wrong(format!("its environment and command have more than {START_BYTES} bytes")));
        }
        if env.iter().any(|pair| pair.find('=').is_none_or(|at| at == 0)) {
            return Err(wrong("an environment variable is not NAME=VALUE".to_owned()));
        }
        Ok(config)
    }
}

impl RunConfig {
    /// Its environment.
    #[must_use]
    pub fn environment(&self) -> BTreeMap<String, String> {
        let pair =
            |pair: &String| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        self.env.iter().filter_map(pair).collect()
    }
}
