//! EventBridge Scheduler's API, as far as functions are its targets: schedules and their groups.
//!
//! A schedule is kept in the words of the API, and given back as it came. When it is due is for `hearth_schedules` to say.

mod groups;
mod shapes;

use std::sync::Arc;

use hearth_schedules::{Expression, Schedule};
use hearth_store::{Expected, Setting, SettingKind, StoreError};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::Backend;
use crate::access::actions::of_scheduler;
use crate::body::{Body, drain, json as answer};
use crate::core::{Core, now_ms};
use crate::error::ApiError;
use crate::names::{Scope, percent_decode, query_value};
use crate::read::eager;
use crate::request::Members;
use crate::service::{mark, unmark};
use crate::services::Client;
use crate::to_end::ToEnd;
use crate::validate::Violations;

/// The group of schedules that name none; it is always there.
const DEFAULT: &str = "default";
/// Entries on a page unless said, and at most.
const PAGE: usize = 100;
/// Schedules of an account.
const MOST: usize = 10_000;
/// What a schedule has of what a request may say.
const KEPT: [&str; 9] = [
    "ScheduleExpression",
    "ScheduleExpressionTimezone",
    "StartDate",
    "EndDate",
    "Description",
    "State",
    "KmsKeyArn",
    "FlexibleTimeWindow",
    "ActionAfterCompletion",
];

type Answer = Result<Response<Body>, ApiError>;

/// A request of this API.
struct Call {
    scope: Scope,
    /// Of the schedule or the group.
    name: String,
    query: String,
    members: Members,
}

/// Whether a request is for the Scheduler.
pub(crate) fn is_for(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next();
    matches!(first, Some("schedules" | "schedule-groups"))
}

impl<B: Backend> Core<B> {
    pub(crate) async fn scheduler(self: &Arc<Self>, head: &Parts, body: Incoming, client: Client) -> Answer {
        let (method, path) = (&head.method, head.uri.path());
        let query = head.uri.query().unwrap_or_default();
        let pending = match self.claim(head, client.ip, &["scheduler"]) {
            Ok(pending) => pending,
            Err(error) => {
                drain(body, eager(&head.headers)).await;
                return Err(error);
            }
        };
        let mut parts = path.trim_matches('/').split('/');
        let (kind, name) = (parts.next().unwrap_or_default(), parts.next());
        if parts.next().is_some() {
            return Err(unknown(method, path));
        }
        let (body, _share) = self.read_body("Scheduler", &head.headers, body).await?;
        let caller = self.admit(pending, &body)?;
        caller.check(&of_scheduler(method, path))?;
        let account = caller.account;
        let name = name.map_or(Some(String::new()), percent_decode).ok_or_else(|| unknown(method, path))?;
        let scope = Scope { region: Arc::clone(&self.region), account };
        let call = Call { scope, name, query: query.to_owned(), members: Members::parse(&body)? };
        let (core, groups) = (Arc::clone(self), kind == "schedule-groups");
        let (method, path) = (method.clone(), path.to_owned());
        let work = async move {
            match (&method, groups, call.name.is_empty()) {
                (&Method::GET, false, true) => core.list_schedules(&call),
                (&Method::GET, true, true) => core.list_schedule_groups(&call),
                (&Method::POST, false, false) => core.put_schedule(&call, false).await,
                (&Method::PUT, false, false) => core.put_schedule(&call, true).await,
                (&Method::GET, false, false) => core.get_schedule(&call),
                (&Method::DELETE, false, false) => core.delete_schedule(&call).await,
                (&Method::POST, true, false) => core.create_schedule_group(&call).await,
                (&Method::GET, true, false) => core.get_schedule_group(&call),
                (&Method::DELETE, true, false) => core.delete_schedule_group(&call).await,
                _ => Err(unknown(&method, &path)),
            }
        };
        let broken = |_| Err(ApiError::internal("Hearth failed to answer; its log says why"));
        ToEnd::new(work).await.unwrap_or_else(broken)
    }

    async fn put_schedule(&self, call: &Call, update: bool) -> Answer {
        let members = &call.members;
        let mut violations = Violations::default();
        violations.text(&call.name, "name", &shapes::NAME);
        violations.body(&members.fields, &shapes::SCHEDULE)?;
        violations.finish()?;
        let group = members.text("GroupName").unwrap_or(DEFAULT);
        self.check_group(&call.scope, group)?;
        let key = format!("{group}/{}", call.name);
        let account = &call.scope.account;
        let found = self.backend.events().setting(SettingKind::Schedule, account, &key);
        let before = found.as_ref().map(|setting| read(&setting.body));
        let arn = schedule_arn(&call.scope, &key);
        match (&before, update) {
            (None, true) => return Err(no_schedule(&call.name)),
            // The client asks again because it did not hear the answer.
            (Some(before), false) if same_request(before, members) => return created(&arn),
            (Some(_), false) => {
                return Err(conflict(&format!("Schedule {} already exists.", call.name)));
            }
            _ => {}
        }
        let all = self.backend.events().settings(SettingKind::Schedule, account, "", "", MOST);
        if !update && all.len() >= MOST {
            let text = format!("The account has {MOST} schedules, which is the most allowed");
            return Err(ApiError::new(StatusCode::PAYMENT_REQUIRED, "ServiceQuotaExceededException", text));
        }
        let now = now_ms();
        let body = self.schedule_body(call, group, before.as_ref(), now)?;
        let expected = match &found {
            Some(setting) => Expected::Generation(setting.generation),
            None => Expected::Nothing,
        };
        let new = Setting {
            kind: SettingKind::Schedule,
            account: account.clone(),
            key,
            generation: 0,
            mark: now,
            body: body.to_string(),
        };
        let kept = self.backend.events().put_setting(new, expected).await;
        if kept.map_err(|error| store(&error))?.is_none() {
            return Err(conflict(&format!("Schedule {} was changed by another request", call.name)));
        }
        self.backend.schedules_changed();
        created(&arn)
    }

    /// The schedule as it is kept, if all of it makes sense.
    fn schedule_body(
        &self,
        call: &Call,
        group: &str,
        before: Option<&Value>,
        now: u64,
    ) -> Result<Value, ApiError> {
        let members = &call.members;
        let mut body = Map::new();
        for name in KEPT {
            if let Some(value) = members.given(name) {
                body.insert(name.to_owned(), value.clone());
            }
        }
        for (name, usual) in
            [("ScheduleExpressionTimezone", "UTC"), ("State", "ENABLED"), ("ActionAfterCompletion", "NONE")]
        {
            body.entry(name).or_insert_with(|| usual.into());
        }
        let target = members.given("Target").cloned().unwrap_or_default();
        check_target(&call.scope, &target)?;
        check_window(&body["FlexibleTimeWindow"])?;
        let creation = before.map_or(now / 1_000, |before| before["CreationDate"].as_u64().unwrap_or(0));
        body.insert("Target".to_owned(), target);
        body.insert("Name".to_owned(), call.name.clone().into());
        body.insert("GroupName".to_owned(), group.into());
        body.insert("CreationDate".to_owned(), creation.into());
        body.insert("LastModificationDate".to_owned(), (now / 1_000).into());
        // Ours: what the API does not give back.
        body.insert("-modified-ms".to_owned(), now.into());
        body.insert("-token".to_owned(), members.text("ClientToken").unwrap_or_default().into());
        let body = Value::Object(body);
        schedule_of(&body).map_err(|error| ApiError::validation(format!("Invalid Schedule: {error}.")))?;
        Ok(body)
    }

    fn get_schedule(&self, call: &Call) -> Answer {
        let key = key(call)?;
        let found = self.backend.events().setting(SettingKind::Schedule, &call.scope.account, &key);
        let Some(setting) = found else { return Err(no_schedule(&call.name)) };
        let mut document = read(&setting.body);
        document["Arn"] = schedule_arn(&call.scope, &key).into();
        if let Some(members) = document.as_object_mut() {
            members.retain(|name, _| !name.starts_with('-'));
        }
        Ok(answer(StatusCode::OK, &document))
    }

    async fn delete_schedule(&self, call: &Call) -> Answer {
        let key = key(call)?;
        let (kind, account) = (SettingKind::Schedule, &call.scope.account);
        let deleted = self.backend.events().delete_setting(kind, account, &key).await;
        if !deleted.map_err(|error| store(&error))? {
            return Err(no_schedule(&call.name));
        }
        self.backend.schedules_changed();
        Ok(answer(StatusCode::OK, &json!({})))
    }

    fn list_schedules(&self, call: &Call) -> Answer {
        let mut violations = Violations::default();
        let value = |name: &str| query_value(&call.query, name);
        let (group, prefix, state) = (value("ScheduleGroup"), value("NamePrefix"), value("State"));
        for (text, name, shape) in [
            (&group, "groupName", &shapes::NAME),
            (&prefix, "namePrefix", &shapes::NAME),
            (&state, "state", &shapes::STATE),
        ] {
            if let Some(text) = text {
                violations.text(text, name, shape);
            }
        }
        let (limit, after) = page(call, &mut violations)?;
        violations.finish()?;
        if let Some(group) = &group {
            self.check_group(&call.scope, group)?;
        }
        let below = group.map_or_else(String::new, |group| format!("{group}/"));
        let (kind, account) = (SettingKind::Schedule, &call.scope.account);
        let found = self.backend.events().settings(kind, account, &below, &after, MOST);
        let wanted = |(setting, body): &(Setting, Value)| {
            let name = setting.key.split_once('/').map_or("", |(_, name)| name);
            prefix.as_ref().is_none_or(|prefix| name.starts_with(prefix.as_str()))
                && state.as_ref().is_none_or(|state| body["State"] == state.as_str())
        };
        let pairs = found.into_iter().map(|setting| {
            let body = read(&setting.body);
            (setting, body)
        });
        let mut listed: Vec<_> = pairs.filter(wanted).take(limit + 1).collect();
        let more = listed.len() > limit;
        listed.truncate(limit);
        let shown = |(setting, body): &(Setting, Value)| {
            json!({
                "Arn": schedule_arn(&call.scope, &setting.key),
                "Name": body["Name"],
                "GroupName": body["GroupName"],
                "State": body["State"],
                "CreationDate": body["CreationDate"],
                "LastModificationDate": body["LastModificationDate"],
                "Target": {"Arn": body["Target"]["Arn"]},
            })
        };
        let mut document = json!({"Schedules": listed.iter().map(shown).collect::<Vec<_>>()});
        if let Some((last, _)) = listed.last().filter(|_| more) {
            document["NextToken"] = mark(&last.key).into();
        }
        Ok(answer(StatusCode::OK, &document))
    }
}

/// When a schedule that is kept is due.
///
/// # Errors
/// It is none.
pub fn schedule_of(body: &Value) -> Result<Schedule, hearth_schedules::ScheduleError> {
    let text = |name: &str| body[name].as_str().unwrap_or_default();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
    let moment = |name: &str| body[name].as_f64().map(|seconds| (seconds * 1_000.0) as u64);
    let expression = Expression::read(text("ScheduleExpression"))?;
    let made = body["-modified-ms"].as_u64().unwrap_or(0);
    Schedule::new(
        expression,
        text("ScheduleExpressionTimezone"),
        made,
        moment("StartDate"),
        moment("EndDate"),
    )
}

fn read(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_default()
}

fn same_request(before: &Value, members: &Members) -> bool {
    members.text("ClientToken").is_some_and(|token| before["-token"] == token)
}

fn created(arn: &str) -> Answer {
    Ok(answer(StatusCode::OK, &json!({"ScheduleArn": arn})))
}

fn check_target(scope: &Scope, target: &Value) -> Result<(), ApiError> {
    let arn = target["Arn"].as_str().unwrap_or_default();
    if !arn.starts_with("arn:aws:lambda:") {
        return Err(ApiError::validation(format!(
            "Provided Arn is not in correct format or not supported: {arn}. Schedules in Hearth invoke functions: \
             arn:aws:lambda:{}:{}:function:NAME",
            scope.region, scope.account
        )));
    }
    let mut violations = Violations::default();
    scope.function(arn, &crate::shapes::NAMESPACED_FUNCTION_NAME, &mut violations)?;
    violations.finish()
}

fn check_window(window: &Value) -> Result<(), ApiError> {
    let minutes = &window["MaximumWindowInMinutes"];
    match window["Mode"].as_str() {
        Some("FLEXIBLE") if minutes.is_null() => Err(ApiError::validation(
            "MaximumWindowInMinutes must be provided when the flexible time window is on.",
        )),
        Some("OFF") if !minutes.is_null() => Err(ApiError::validation(
            "MaximumWindowInMinutes must not be provided when the flexible time window is off.",
        )),
        _ => Ok(()),
    }
}

/// The key of the schedule that a path and a query name.
fn key(call: &Call) -> Result<String, ApiError> {
    let group = query_value(&call.query, "groupName").unwrap_or_else(|| DEFAULT.to_owned());
    let mut violations = Violations::default();
    violations.text(&call.name, "name", &shapes::NAME);
    violations.text(&group, "groupName", &shapes::NAME);
    violations.finish()?;
    Ok(format!("{group}/{}", call.name))
}

/// How many entries a page has, and after which it begins.
fn page(call: &Call, violations: &mut Violations) -> Result<(usize, String), ApiError> {
    let wrong = || ApiError::validation("Invalid NextToken or MaxResults");
    let limit = match query_value(&call.query, "MaxResults") {
        Some(text) => {
            let number: i64 = text.parse().map_err(|_| wrong())?;
            violations.number(number, "maxResults", &shapes::MAX_RESULTS);
            usize::try_from(number).unwrap_or(PAGE).min(PAGE)
        }
        None => PAGE,
    };
    let token = query_value(&call.query, "NextToken").filter(|token| !token.is_empty());
    let after = token.map_or_else(|| Some(String::new()), |token| unmark(&token));
    Ok((limit, after.ok_or_else(wrong)?))
}

fn schedule_arn(scope: &Scope, key: &str) -> String {
    format!("arn:aws:scheduler:{}:{}:schedule/{key}", scope.region, scope.account)
}

fn no_schedule(name: &str) -> ApiError {
    ApiError::not_found(format!("Schedule {name} does not exist."))
}

fn conflict(text: &str) -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "ConflictException", text)
}

fn store(error: &StoreError) -> ApiError {
    ApiError::store(error, "")
}

fn unknown(method: &Method, path: &str) -> ApiError {
    let path: String = path.chars().take(256).collect();
    let text = format!("The Scheduler's API has no operation {method} {path}");
    ApiError::new(StatusCode::NOT_FOUND, "UnknownOperationException", text)
}
