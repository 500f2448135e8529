//! IAM: roles made, shown, changed and deleted, with the policies that were put on them.

use hearth_types::AccountId;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::query::{Fault, Form, Outcome};
use super::roles::{Role, percent_encode};
use crate::Backend;
use crate::core::{Core, now_ms};

/// Characters of a role's or a policy's name.
const NAME: usize = 128;
/// Characters of a policy.
const POLICY: usize = 131_072;
/// Tags of a role, and policies attached to it.
const MOST: usize = 50;
/// Roles on one page, when the caller does not say.
const PAGE: usize = 100;

impl<B: Backend> Core<B> {
    /// Answers an action; nothing if Hearth does not have it.
    pub(super) async fn iam(&self, action: &str, form: Form<'_>, account: &AccountId) -> Option<Outcome> {
        Some(match action {
            "CreateRole" => self.create_role(form, account).await,
            "GetRole" => self.get_role(form, account).await,
            "ListRoles" => self.list_roles(form, account).await,
            "DeleteRole" => self.delete_role(form, account).await,
            "UpdateRole" | "UpdateRoleDescription" | "UpdateAssumeRolePolicy" => {
                self.update_role(action, form, account).await
            }
            "AttachRolePolicy" | "DetachRolePolicy" => self.attach(action, form, account).await,
            "ListAttachedRolePolicies" => self.list_attached(form, account).await,
            "PutRolePolicy" => self.put_policy(form, account).await,
            "GetRolePolicy" => self.get_policy_of_role(form, account).await,
            "DeleteRolePolicy" => self.delete_policy(form, account).await,
            "ListRolePolicies" => self.list_policies(form, account).await,
            "TagRole" | "UntagRole" => self.tag_role(action, form, account).await,
            "ListRoleTags" => self.list_role_tags(form, account).await,
            // There are none, and who deletes a role asks.
            "ListInstanceProfilesForRole" => {
                self.role_of(form, account).await.map(|_| whole("InstanceProfiles", &json!([])))
            }
            _ => return None,
        })
    }

    async fn role_of(&self, form: Form<'_>, account: &AccountId) -> Result<Role, Fault> {
        self.role(account, &form.need("RoleName", NAME)?).await
    }

    async fn create_role(&self, form: Form<'_>, account: &AccountId) -> Outcome {
        let name = form.need("RoleName", 64)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
        if !name.chars().all(allowed) {
            return Err(Fault::invalid(
                "The specified value for roleName is invalid. It must contain only alphanumeric characters and/or the \
                 following: +=,.@_-",
            ));
        }
        let path = form.get("Path").unwrap_or_else(|| "/".to_owned());
        if !path.starts_with('/') || !path.ends_with('/') || path.len() > 512 || !path.is_ascii() {
            return Err(Fault::invalid("The path must begin and end with / and have at most 512 characters"));
        }
        let random = uuid::Uuid::new_v4().simple().to_string().to_uppercase();
        let role = Role {
            name,
            path,
            id: format!("AROA{}", &random[..17]),
            created_ms: now_ms(),
            trust: form.need("AssumeRolePolicyDocument", POLICY)?,
            description: description(form)?,
            session_seconds: session_seconds(form)?.unwrap_or(3_600),
            tags: tags(form)?.collect(),
            attached: Vec::new(),
            inline: std::collections::BTreeMap::new(),
        };
        self.keep_role(account, &role).await?;
        Ok(Some(json!({"Role": role.shown(account)})))
    }

    async fn get_role(&self, form: Form<'_>, account: &AccountId) -> Outcome {
        Ok(Some(json!({"Role": self.role_of(form, account).await?.shown(account)})))
    }

    async fn list_roles(&self, form: Form<'_>, account: &AccountId) -> Outcome {
        let prefix = form.get("PathPrefix").unwrap_or_default();
        let most = match form.get("MaxItems") {
            None => PAGE,
            Some(text) => text
                .parse()
                .ok()
                .filter(|most| (1..=1_000).contains(most))
                .ok_or_else(|| Fault::invalid("MaxItems must be a number from 1 to 1000"))?,
        };
        let mut after = form.get("Marker").unwrap_or_default();
        let mut shown = Vec::new();
        // Roles of other paths are passed over, so that a page is as full as it can be.
        while shown.len() <= most {
            let roles = self.roles(account, &after, most + 1).await?;
            let Some(last) = roles.last() else { break };
            after.clone_from(&last.name);
            shown.extend(roles.into_iter().filter(|role| role.path.starts_with(&prefix)));
        }
        let more = shown.len() > most;
        shown.truncate(most);
        let marker = shown.last().filter(|_| more).map(|role| role.name.clone());
        let roles: Vec<_> = shown.iter().map(|role| role.shown(account)).collect();
        Ok(Some(json!({"Roles": roles, "IsTruncated": more, "Marker": marker})))
    }

    async fn delete_role(&self, form: Form<'_>, account: &AccountId) -> Outcome {
        let role = self.role_of(form, account).await?;
        if !role.attached.is_empty() || !role.inline.is_empty() {
            let text = "Cannot delete entity, must detach all policies first.";
            return Err(Fault::new(StatusCode::CONFLICT, "DeleteConflict", text));
        }
        self.remove_role(account, &role.name).await?;
        Ok(None)
    }

    async fn update_role(&self, action: &str, form: Form<'_>, account: &AccountId) -> Outcome {
        let name = form.need("RoleName", NAME)?;
        let (description, seconds) = (description(form)?, session_seconds(form)?);
        let trust = match action {
            "UpdateAssumeRolePolicy" => Some(form.need("PolicyDocument", POLICY)?),
            _ => None,
        };
        let role = self
            .change_role(account, &name, |role| {
                role.trust = trust.clone().unwrap_or_else(|| std::mem::take(&mut role.trust));
                role.description = description.clone().or_else(|| role.description.take());
                role.session_seconds = seconds.unwrap_or(role.session_seconds);
                Ok(())
            })
            .await?;
        Ok(match action {
            "UpdateAssumeRolePolicy" => None,
            "UpdateRole" => Some(json!({})),
            _ => Some(json!({"Role": role.shown(account)})),
        })
    }

    async fn attach(&self, action: &str, form: Form<'_>, account: &AccountId) -> Outcome {
        let (name, arn) = (form.need("RoleName", NAME)?, form.need("PolicyArn", 2_048)?);
        self.change_role(account, &name, |role| {
            let known = role.attached.iter().position(|policy| *policy == arn);
            match (action, known) {
                ("AttachRolePolicy", None) if role.attached.len() >= MOST => {
                    let text = format!("Cannot exceed quota for PoliciesPerRole: {MOST}");
                    return Err(Fault::new(StatusCode::CONFLICT, "LimitExceeded", text));
                }
                ("AttachRolePolicy", None) => role.attached.push(arn.clone()),
                ("DetachRolePolicy", Some(at)) => drop(role.attached.remove(at)),
                ("DetachRolePolicy", None) => {
                    let text = format!("Policy {arn} was not found.");
                    return Err(Fault::new(StatusCode::NOT_FOUND, "NoSuchEntity", text));
                }
                _ => {}
            }
            Ok(())
        })
        .await?;
        Ok(None)
    }

    async fn list_attached(&self, form: Form<'_>, account: &AccountId) -> Outcome {
        let role = self.role_of(form, account).await?;
        let shown = role.attached.iter().map(|arn| {
            let name = arn.rsplit('/').next().unwrap_or(arn);
            json!({"PolicyName": name, "PolicyArn": arn})
        });
        Ok(whole("AttachedPolicies", &shown.collect()))
    }

    async fn put_policy(&self, form: Form<'_>, account: &AccountId) -> Outcome {
        let (name, policy) = (form.need("RoleName", NAME)?, form.need("PolicyName", NAME)?);
        let text = form.need("PolicyDocument", POLICY)?;
        self.change_role(account, &name, |role| {
            role.inline.insert(policy.clone(), text.clone());
            if role.inline.len() > MOST {
                let text = format!("Hearth keeps at most {MOST} policies in a role");
                return Err(Fault::new(StatusCode::CONFLICT, "LimitExceeded", text));
            }
            Ok(())
        })
        .await?;
        Ok(None)
    }

    async fn get_policy_of_role(&self, form: Form<'_>, account: &AccountId) -> Outcome {
        let (role, policy) = (self.role_of(form, account).await?, form.need("PolicyName", NAME)?);
        let text = role.inline.get(&policy).ok_or_else(|| no_policy(&policy))?;
        let text = percent_encode(text);
        Ok(Some(json!({"RoleName": role.name, "PolicyName": policy, "PolicyDocument": text})))
    }

    async fn delete_policy(&self, form: Form<'_>, account: &AccountId) -> Outcome {
        let (name, policy) = (form.need("RoleName", NAME)?, form.need("PolicyName", NAME)?);
        self.change_role(account, &name, |role| {
            role.inline.remove(&policy).map(drop).ok_or_else(|| no_policy(&policy))
        })
        .await?;
        Ok(None)
    }

    async fn list_policies(&self, form: Form<'_>, account: &AccountId) -> Outcome {
        let role = self.role_of(form, account).await?;
        Ok(whole("PolicyNames", &role.inline.keys().cloned().collect()))
    }

    async fn tag_role(&self, action: &str, form: Form<'_>, account: &AccountId) -> Outcome {
        let name = form.need("RoleName", NAME)?;
        let added: Vec<_> = tags(form)?.collect();
        let removed = form.list("TagKeys", MOST, "");
        self.change_role(account, &name, |role| {
            if action == "TagRole" {
                role.tags.extend(added.iter().cloned());
            } else {
                role.tags.retain(|key, _| !removed.contains(key));
            }
            if role.tags.len() > MOST {
                let text = format!("A role can have at most {MOST} tags");
                return Err(Fault::new(StatusCode::CONFLICT, "LimitExceeded", text));
            }
            Ok(())
        })
        .await?;
        Ok(None)
    }

    async fn list_role_tags(&self, form: Form<'_>, account: &AccountId) -> Outcome {
        Ok(whole("Tags", &self.role_of(form, account).await?.shown_tags()))
    }
}

/// A list that is always on one page.
fn whole(name: &str, entries: &Value) -> Option<Value> {
    Some(json!({name: entries, "IsTruncated": false}))
}

fn no_policy(name: &str) -> Fault {
    let text = format!("The role policy with name {name} cannot be found.");
    Fault::new(StatusCode::NOT_FOUND, "NoSuchEntity", text)
}

fn description(form: Form<'_>) -> Result<Option<String>, Fault> {
    let description = form.get("Description");
    if description.as_ref().is_some_and(|text| text.chars().count() > 1_000) {
        return Err(Fault::invalid("Description must have at most 1000 characters"));
    }
    Ok(description)
}

fn session_seconds(form: Form<'_>) -> Result<Option<u32>, Fault> {
    let Some(text) = form.get("MaxSessionDuration") else { return Ok(None) };
    let seconds = text.parse().ok().filter(|seconds| (3_600..=43_200).contains(seconds));
    let wrong = || Fault::invalid("MaxSessionDuration must be a number from 3600 to 43200");
    seconds.map(Some).ok_or_else(wrong)
}

fn tags(form: Form<'_>) -> Result<impl Iterator<Item = (String, String)>, Fault> {
    let (keys, values) = (form.list("Tags", MOST, ".Key"), form.list("Tags", MOST, ".Value"));
    if keys.len() != values.len() || keys.iter().any(|key| key.is_empty() || key.chars().count() > 128) {
        return Err(Fault::invalid("Each tag must have a Key of 1 to 128 characters, and a Value"));
    }
    Ok(keys.into_iter().zip(values))
}
