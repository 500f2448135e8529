//! From what is kept by qualifier to what the backend is told by version.

use std::collections::BTreeMap;

use hearth_store::{AliasRecord, ProvisionedRecord};
use hearth_types::{FunctionId, Version};

use crate::Backend;
use crate::core::Core;
use crate::error::ApiError;
use crate::names::Qualifier;
use crate::spec::{self, Source};

/// Requests at once that each version is to be ready for.
pub(crate) type Plan = BTreeMap<u64, u32>;

impl<B: Backend> Core<B> {
    /// What is to be ready of each version of a function.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn plan(&self, id: &FunctionId) -> Result<Plan, ApiError> {
        let kept =
            self.store.provisioned(id).await.map_err(|error| ApiError::store(&error, &self.arn(id)))?;
        let mut plan = Plan::new();
        for config in &kept {
            for (version, count) in self.parts(config).await? {
                let sum = plan.entry(version).or_default();
                *sum = sum.saturating_add(count);
            }
        }
        Ok(plan)
    }

    /// Which versions one config means, and how much of it each.
    pub(super) async fn parts(&self, config: &ProvisionedRecord) -> Result<Vec<(u64, u32)>, ApiError> {
        match Qualifier::read(&config.qualifier) {
            Qualifier::Published(number) => Ok(vec![(number, config.count)]),
            Qualifier::Alias(name) => {
                let alias = self.store.alias(&config.function, &name).await;
                let alias = alias.map_err(|error| ApiError::store(&error, &self.arn(&config.function)))?;
                Ok(alias.map(|alias| split(&alias, config.count)).unwrap_or_default())
            }
            Qualifier::None | Qualifier::Latest => Ok(Vec::new()),
        }
    }

    /// Tells the backend what is to be ready now that something changed since the plan was `before`.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn provision(&self, id: &FunctionId, before: &Plan) -> Result<(), ApiError> {
        let plan = self.plan(id).await?;
        let record = self.record(id).await?;
        let gone = before.keys().filter(|version| !plan.contains_key(version)).map(|version| (*version, 0));
        for (number, count) in plan.iter().map(|(version, count)| (*version, *count)).chain(gone) {
            let version = self.version(id, number).await?;
            match spec::of(&record, Source::published(&version), &self.region) {
                Ok(spec) => self.backend.provision(spec, count),
                Err(reason) => tracing::warn!(function = %id, number, reason.text, "cannot be provisioned"),
            }
        }
        Ok(())
    }

    /// Tells the backend anew what is to be ready, with specs as they are now.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn provision_again(&self, id: &FunctionId) -> Result<(), ApiError> {
        self.provision(id, &Plan::new()).await
    }
}

/// How many of `count` each version of an alias gets.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a part of a u32 is one, to the nearest whole"
)]
fn split(alias: &AliasRecord, count: u32) -> Vec<(u64, u32)> {
    let Version::Published(main) = alias.version else { return Vec::new() };
    let (additional, part) = alias.additional.map_or((main, 0), |(number, weight)| {
        (number, ((f64::from(count) * weight).round() as u32).min(count))
    });
    [(main, count - part), (additional, part)].into_iter().filter(|(_, count)| *count > 0).collect()
}

/// The part of `have` that falls to `count` of `all`.
pub(super) fn share(have: u32, count: u32, all: u32) -> u32 {
    let part = u64::from(have) * u64::from(count) / u64::from(all.max(1));
    u32::try_from(part).unwrap_or(count).min(count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn alias(additional: Option<(u64, f64)>) -> AliasRecord {
        AliasRecord {
            function: FunctionId { account: "123456789012".parse().unwrap(), name: "f".into() },
            name: "live".to_owned(),
            version: Version::Published(1),
            additional,
            description: String::new(),
            revision_id: String::new(),
        }
    }

    proptest! {
        #[test]
        fn nothing_of_what_is_provisioned_for_an_alias_is_lost_between_its_versions(
            count in 1..=u32::MAX,
            weight in proptest::option::of(0.0..=1.0_f64),
        ) {
            let parts = split(&alias(weight.map(|weight| (2, weight))), count);
            prop_assert_eq!(parts.iter().map(|(_, part)| u64::from(*part)).sum::<u64>(), u64::from(count));
            prop_assert!(parts.iter().all(|(_, part)| *part > 0));
        }

        #[test]
        fn no_config_gets_more_than_it_asked_for(have: u32, count in 1..1_000_u32, others in 0..1_000_u32) {
            let got = share(have, count, count + others);
            prop_assert!(got <= count && got <= have);
            prop_assert!(have < count + others || got == count);
        }
    }
}
