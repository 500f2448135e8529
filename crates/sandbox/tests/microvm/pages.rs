//! Memory that comes page by page, from userfaultfd.

use std::sync::atomic::{AtomicU64, Ordering};

use hearth_sandbox::{CloneMemory, Exit};
use libtest_mimic::Trial;

use crate::world::{World, shell, trial, until};

/// What the driver says of working sets: how many pages it recorded and prefetched last.
#[derive(Default)]
struct Told {
    recorded: AtomicU64,
    prefetched: AtomicU64,
}

static TOLD: Told = Told { recorded: AtomicU64::new(0), prefetched: AtomicU64::new(0) };

/// Listens to what the driver says.
struct Listener;

/// The message of an event, and its number of pages.
#[derive(Default)]
struct Event {
    message: String,
    pages: u64,
}

impl tracing::field::Visit for Event {
    fn record_u64(&mut self, field: &tracing::field::Field, value: u64) {
        if field.name() == "pages" {
            self.pages = value;
        }
    }
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
}

impl tracing::Subscriber for Listener {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().contains("pager")
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, told: &tracing::Event<'_>) {
        let mut event = Event::default();
        told.record(&mut event);
        match event.message.as_str() {
            "recorded a working set" => TOLD.recorded.store(event.pages, Ordering::Release),
            "prefetched a working set" => TOLD.prefetched.store(event.pages, Ordering::Release),
            other => println!("{other}"),
        }
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

pub(crate) fn trials() -> Vec<Trial> {
    let trials = vec![trial("later_clones_have_the_pages_that_the_first_one_asked_for", |world| async {
        // Only this trial listens.
        let _ = tracing::subscriber::set_global_default(Listener);
        let directory = world.directory.path().join("pages");
        let name = format!("{}-pages", world.name);
        let (driver, recovered) = crate::open_with(&name, &directory, CloneMemory::Pages).await;
        let own = World { driver, recovered, name, directory: tempfile::tempdir().unwrap() };
        let script = "echo mine > /tmp/file; cat /tmp/file; ls /usr/bin | wc -l > /dev/null";
        let first = own.sandbox().await;
        assert_eq!(shell(&*first, script).await, (Exit::Status(0), "mine\n".to_owned()));
        until("a working set", || TOLD.recorded.load(Ordering::Acquire) > 100).await;
        let second = own.sandbox().await;
        assert_eq!(shell(&*second, script).await, (Exit::Status(0), "mine\n".to_owned()));
        let (recorded, prefetched) =
            (TOLD.recorded.load(Ordering::Acquire), TOLD.prefetched.load(Ordering::Acquire));
        assert!(prefetched > recorded / 2, "{prefetched} of {recorded} pages were prefetched");
        // What is asked for is all of the memory, then.
        second.pause().await.unwrap();
        second.resume().await.unwrap();
        assert_eq!(shell(&*second, "cat /tmp/file").await.1, "mine\n");
        own.driver.close().await;
        world
    })];
    trials
}
