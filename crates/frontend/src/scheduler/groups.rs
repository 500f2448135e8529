//! Groups of schedules: names, and what goes when they do.

use hearth_store::{Expected, Setting, SettingKind};
use hyper::StatusCode;
use serde_json::{Value, json};

use super::{Answer, Call, DEFAULT, MOST, conflict, page, read, shapes, store};
use crate::Backend;
use crate::body::json as answer;
use crate::core::{Core, now_ms};
use crate::error::ApiError;
use crate::names::{Scope, query_value};
use crate::service::mark;
use crate::validate::Violations;

const KIND: SettingKind = SettingKind::ScheduleGroup;

impl<B: Backend> Core<B> {
    /// Whether a group is there.
    pub(super) fn check_group(&self, scope: &Scope, group: &str) -> Result<(), ApiError> {
        let there = group == DEFAULT || self.backend.events().setting(KIND, &scope.account, group).is_some();
        if there { Ok(()) } else { Err(no_group(group)) }
    }

    pub(super) async fn create_schedule_group(&self, call: &Call) -> Answer {
        checked(call)?;
        let taken = || conflict(&format!("Schedule group {} already exists.", call.name));
        if call.name == DEFAULT {
            return Err(taken());
        }
        let now = now_ms() / 1_000;
        let body = json!({"CreationDate": now, "LastModificationDate": now}).to_string();
        let (account, key) = (call.scope.account.clone(), call.name.clone());
        let new = Setting { kind: KIND, account, key, generation: 0, mark: 0, body };
        let kept = self.backend.events().put_setting(new, Expected::Nothing).await;
        kept.map_err(|error| store(&error))?.ok_or_else(taken)?;
        Ok(answer(StatusCode::OK, &json!({"ScheduleGroupArn": group_arn(&call.scope, &call.name)})))
    }

    pub(super) fn get_schedule_group(&self, call: &Call) -> Answer {
        checked(call)?;
        let found = self.backend.events().setting(KIND, &call.scope.account, &call.name);
        let body = found.map(|setting| read(&setting.body));
        match body {
            None if call.name != DEFAULT => Err(no_group(&call.name)),
            body => Ok(answer(StatusCode::OK, &shown(&call.scope, &call.name, &body.unwrap_or_default()))),
        }
    }

    /// A group goes with all that is in it.
    pub(super) async fn delete_schedule_group(&self, call: &Call) -> Answer {
        checked(call)?;
        if call.name == DEFAULT {
            return Err(ApiError::validation("The default schedule group cannot be deleted."));
        }
        self.check_group(&call.scope, &call.name)?;
        let (events, account) = (self.backend.events(), &call.scope.account);
        for schedule in events.settings(SettingKind::Schedule, account, &format!("{}/", call.name), "", MOST)
        {
            let deleted = events.delete_setting(SettingKind::Schedule, account, &schedule.key).await;
            deleted.map_err(|error| store(&error))?;
        }
        let deleted = events.delete_setting(KIND, account, &call.name).await;
        deleted.map_err(|error| store(&error))?;
        self.backend.schedules_changed();
        Ok(answer(StatusCode::OK, &json!({})))
    }

    pub(super) fn list_schedule_groups(&self, call: &Call) -> Answer {
        let mut violations = Violations::default();
        let prefix = query_value(&call.query, "NamePrefix").unwrap_or_default();
        let (limit, after) = page(call, &mut violations)?;
        violations.finish()?;
        let found = self.backend.events().settings(KIND, &call.scope.account, "", "", MOST);
        let mut groups: Vec<(String, Value)> =
            found.into_iter().map(|setting| (setting.key, read(&setting.body))).collect();
        groups.push((DEFAULT.to_owned(), Value::Null));
        groups.sort_by(|one, other| one.0.cmp(&other.0));
        groups.retain(|(name, _)| name.starts_with(&prefix) && *name > after);
        let more = groups.len() > limit;
        groups.truncate(limit);
        let listed: Vec<Value> = groups.iter().map(|(name, body)| shown(&call.scope, name, body)).collect();
        let mut document = json!({"ScheduleGroups": listed});
        if let Some((last, _)) = groups.last().filter(|_| more) {
            document["NextToken"] = mark(last).into();
        }
        Ok(answer(StatusCode::OK, &document))
    }
}

fn checked(call: &Call) -> Result<(), ApiError> {
    let mut violations = Violations::default();
    violations.text(&call.name, "name", &shapes::NAME);
    violations.finish()
}

fn shown(scope: &Scope, name: &str, body: &Value) -> Value {
    json!({
        "Arn": group_arn(scope, name),
        "Name": name,
        "State": "ACTIVE",
        "CreationDate": body["CreationDate"].as_u64().unwrap_or(0),
        "LastModificationDate": body["LastModificationDate"].as_u64().unwrap_or(0),
    })
}

fn group_arn(scope: &Scope, name: &str) -> String {
    format!("arn:aws:scheduler:{}:{}:schedule-group/{name}", scope.region, scope.account)
}

fn no_group(group: &str) -> ApiError {
    ApiError::not_found(format!("Schedule group {group} does not exist."))
}
