//! Sandboxes that were made ahead: whatever becomes of the instance that one was chosen for, none is left behind.

use hearth_types::{EndReason, FunctionSpec, InstanceId};
use hearth_worker::WorkerEvent;
use libtest_mimic::Trial;

use crate::extensions::with_extension;
use crate::world::{WAITS, World, trial};

/// An extension that says how many interpreters wait beside it.
const LOOKER: &str = r"
import glob
lines = [open(path, 'rb').read() for path in glob.glob('/proc/[0-9]*/cmdline')]
print('waiting beside it:', sum(b'WAITS' in line for line in lines), 'of', len(lines), flush=True)
status, headers, body = call('POST', '/2020-01-01/extension/register', json.dumps({'events': []}), {'Lambda-Extension-Name': 'watcher'})
call('GET', '/2020-01-01/extension/event/next', None, {'Lambda-Extension-Identifier': headers['lambda-extension-identifier']})
";

/// A blank that an instance can be made of.
async fn ready_blank(world: &mut World, spec: &FunctionSpec) -> InstanceId {
    let blank = world.make_blank(spec);
    match world.event_of(blank).await {
        WorkerEvent::BlankReady { .. } => blank,
        other => panic!("not ready but {other:?}"),
    }
}

/// Waits for a blank's last event; that comes after its sandbox has gone.
async fn blank_gone(world: &mut World, blank: InstanceId) {
    match world.event_of(blank).await {
        WorkerEvent::BlankGone { .. } => assert!(world.worker.blanks().is_empty()),
        other => panic!("not gone but {other:?}"),
    }
}

async fn failed(world: &mut World, instance: InstanceId) -> String {
    match world.event_of(instance).await {
        WorkerEvent::InstanceFailed { reason, .. } => reason,
        other => panic!("not failed but {other:?}"),
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("an_instance_is_made_of_a_blank_which_is_one_no_more", |mut world| async move {
            let spec = world.python("serve(lambda event, id, headers: event)");
            let blank = ready_blank(&mut world, &spec).await;
            let id = world.create_of(Some(blank), spec);
            assert!(matches!(world.event_of(id).await, WorkerEvent::InstanceReady { initialized: true, .. }));
            assert!(world.worker.blanks().is_empty());
            assert_eq!(world.worker.metrics().instances_from_blanks, 1);
            world.worker.end_blank(blank);
            assert_eq!(world.value(id, "1").await, 1);
            world.worker.end(id, EndReason::Idle);
            assert_eq!(world.gone(id).await, EndReason::Idle);
            world
        }),
        trial("a_blank_ends_when_its_instance_cannot_be_launched", |mut world| async move {
            let mut spec = world.python("serve(lambda event, id, headers: event)");
            let blank = ready_blank(&mut world, &spec).await;
            spec.environment.clear();
            let id = world.create_of(Some(blank), spec);
            assert_eq!(failed(&mut world, id).await, "there is no code");
            blank_gone(&mut world, blank).await;
            world
        }),
        trial("a_blank_ends_when_its_instances_log_cannot_be_kept", |mut world| async move {
            let mut spec = world.python("serve(lambda event, id, headers: event)");
            let blank = ready_blank(&mut world, &spec).await;
            spec.revision.version.function.name = "no/name".into();
            let id = world.create_of(Some(blank), spec);
            let reason = failed(&mut world, id).await;
            assert!(reason.starts_with("its log cannot be kept"), "{reason}");
            blank_gone(&mut world, blank).await;
            world
        }),
        trial(
            "a_blank_that_is_ended_as_soon_as_it_was_asked_for_is_never_ready_and_goes",
            |mut world| async move {
                let spec = world.python("serve(lambda event, id, headers: event)");
                let blank = world.make_blank(&spec);
                world.worker.end_blank(blank);
                blank_gone(&mut world, blank).await;
                world
            },
        ),
        trial("an_extension_does_not_see_the_interpreter_that_was_started_ahead", |mut world| async move {
            let spec = with_extension(&world, &LOOKER.replace("WAITS", WAITS));
            let blank = ready_blank(&mut world, &spec).await;
            let id = world.create_of(Some(blank), spec);
            assert!(matches!(world.event_of(id).await, WorkerEvent::InstanceReady { initialized: true, .. }));
            assert_eq!(world.worker.metrics().instances_from_blanks, 1);
            assert!(world.value(id, "1").await.is_string());
            let log = world.log().await;
            assert!(log.iter().any(|line| line.starts_with("waiting beside it: 0 of ")), "{log:#?}");
            world
        }),
    ]
}
