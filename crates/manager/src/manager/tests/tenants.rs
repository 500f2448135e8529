//! Tenants of one function: never in one instance, bounded together, and gone without a trace.

use hearth_types::limits::TENANTS_PER_THOUSAND;

use super::*;

/// A request for a tenant of the one function, with a spec that all requests share.
struct Shop {
    story: Story,
    spec: Arc<FunctionSpec>,
}

impl Shop {
    fn new(spec: FunctionSpec, config: Config) -> Self {
        Self { story: Story::with(config), spec: Arc::new(FunctionSpec { per_tenant: true, ..spec }) }
    }

    fn ask(&mut self, name: &str) -> Acquired {
        self.story.ask(&LeaseRequest { spec: Arc::clone(&self.spec), tenant: Some(tenant(name)) })
    }

    fn waits(&mut self, name: &str) -> WaitId {
        match self.ask(name) {
            Acquired::Waiting(wait) => wait,
            other @ (Acquired::Leased(_) | Acquired::Refused(_)) => panic!("expected to wait, got {other:?}"),
        }
    }

    /// A cold start for a tenant, from the request to its lease.
    fn cold(&mut self, name: &str) -> Lease {
        let wait = self.waits(name);
        let [instance] = self.story.started()[..] else { panic!("expected one start") };
        self.story.ready(instance);
        let [(granted, ref lease)] = self.story.granted()[..] else { panic!("expected one grant") };
        assert_eq!((granted, lease.instance), (wait, instance));
        lease.clone()
    }

    /// The lease's instance is gone: who has the room that it leaves.
    fn room_of(&mut self, lease: &Lease) -> Vec<WaitId> {
        self.story.event(Event::InstanceGone { instance: lease.instance });
        let [start] = self.story.started()[..] else { panic!("expected one start") };
        self.story.ready(start);
        self.story.granted().into_iter().map(|(wait, _)| wait).collect()
    }

    /// None of the instances that were asked for has room.
    fn no_room(&mut self) {
        for instance in self.story.started() {
            let reason = "full".to_owned();
            self.story.event(Event::PlacementFailed { instance, reason, room_may_come: true });
        }
    }

    fn tenant_of(&self, instance: InstanceId) -> Option<String> {
        let mut views = self.story.manager.instances();
        views.find(|view| view.id == instance)?.tenant.map(ToString::to_string)
    }
}

fn shop() -> Shop {
    Shop::new(spec("f", 1), Config::default())
}

#[test]
fn an_idle_instance_of_one_tenant_is_not_anothers() {
    let mut shop = shop();
    let blue = shop.cold("blue");
    shop.story.give_back(&blue);
    let green = shop.cold("green");
    assert_ne!(blue.instance, green.instance);
    shop.story.give_back(&green);
    assert_eq!(shop.tenant_of(blue.instance).as_deref(), Some("blue"));
    assert!(matches!(shop.ask("blue"), Acquired::Leased(lease) if lease.instance == blue.instance));
    assert!(matches!(shop.ask("green"), Acquired::Leased(lease) if lease.instance == green.instance));
    // Nor is it for one who names no tenant.
    let nobody = LeaseRequest { spec: Arc::clone(&shop.spec), tenant: None };
    assert!(matches!(shop.story.ask(&nobody), Acquired::Waiting(_)));
}

#[test]
fn an_instance_that_gets_ready_serves_only_its_tenants_queue() {
    let mut shop = shop();
    let [blue, green] = ["blue", "green"].map(|name| shop.waits(name));
    let [first, second] = shop.story.started()[..] else { panic!("expected two starts") };
    assert_eq!(shop.tenant_of(first).as_deref(), Some("blue"));
    shop.story.ready(second);
    let [(granted, _)] = shop.story.granted()[..] else { panic!("expected one grant") };
    assert_eq!(granted, green);
    shop.story.ready(first);
    let [(granted, _)] = shop.story.granted()[..] else { panic!("expected one grant") };
    assert_eq!(granted, blue);
}

#[test]
fn a_hibernating_instance_wakes_for_its_own_tenant_only() {
    let mut shop = shop();
    let blue = shop.cold("blue");
    shop.story.give_back(&blue);
    shop.story.event(Event::MemoryShort { worker: local(), relief: Relief::Hibernate });
    assert_eq!(shop.story.state(blue.instance), Some(InstanceState::Hibernating));
    shop.story.take_actions();
    let green = shop.cold("green");
    assert_ne!(green.instance, blue.instance);
    assert!(matches!(shop.ask("blue"), Acquired::Leased(lease) if lease.instance == blue.instance));
}

#[test]
fn a_new_reading_of_the_same_spec_finds_the_same_tenants() {
    let mut shop = shop();
    let blue = shop.cold("blue");
    let green = shop.cold("green");
    shop.story.give_back(&blue);
    shop.story.give_back(&green);
    shop.spec = Arc::new(FunctionSpec { reserved_concurrency: Some(7), ..(*shop.spec).clone() });
    assert!(matches!(shop.ask("green"), Acquired::Leased(lease) if lease.instance == green.instance));
    assert!(matches!(shop.ask("blue"), Acquired::Leased(lease) if lease.instance == blue.instance));
}

#[test]
fn tenants_share_their_functions_concurrency() {
    let mut shop =
        Shop::new(FunctionSpec { reserved_concurrency: Some(2), ..spec("f", 1) }, Config::default());
    let blue = shop.cold("blue");
    let _green = shop.cold("green");
    assert_eq!(shop.ask("red"), Acquired::Refused(Refusal::FunctionLimit { limit: 2 }));
    shop.story.give_back(&blue);
    assert!(matches!(shop.ask("red"), Acquired::Waiting(_)));
}

#[test]
fn a_function_has_instances_of_no_more_tenants_at_once_than_may_be() {
    let most = 4 * TENANTS_PER_THOUSAND / 1_000;
    let mut shop =
        Shop::new(FunctionSpec { reserved_concurrency: Some(4), ..spec("f", 1) }, Config::default());
    for number in 0..most {
        let lease = shop.cold(&number.to_string());
        shop.story.give_back(&lease);
    }
    assert_eq!(shop.ask("another"), Acquired::Refused(Refusal::TenantLimit { limit: most }));
    assert!(matches!(shop.ask("0"), Acquired::Leased(_)), "those that are there are served");
    let idle = shop.story.manager.instances().find(|view| view.state == InstanceState::Idle).unwrap().id;
    shop.story.event(Event::TerminationAsked { instance: idle });
    shop.story.event(Event::InstanceGone { instance: idle });
    assert!(matches!(shop.ask("another"), Acquired::Waiting(_)), "one has gone");
}

#[test]
fn nothing_is_remembered_of_a_tenant_without_instances() {
    let learned = FunctionSpec { keep_alive: KeepAlive::Learned, ..spec("f", 1) };
    let mut shop = Shop::new(learned, Config { account_concurrency: 10_000, ..Config::default() });
    for round in 0..3 {
        for number in 0..200 {
            let lease = shop.cold(&format!("{round}-{number}"));
            shop.story.give_back(&lease);
        }
        shop.story.after(600);
        for (instance, reason) in shop.story.ended() {
            assert_eq!(reason, EndReason::Idle);
            shop.story.event(Event::InstanceGone { instance });
        }
        shop.story.assert_nothing_left();
    }
}

#[test]
fn a_replaced_or_deleted_function_ends_the_instances_of_all_its_tenants() {
    for delete in [false, true] {
        let mut shop = shop();
        for name in ["blue", "green"] {
            let lease = shop.cold(name);
            shop.story.give_back(&lease);
        }
        let RevisionId { version, number } = shop.spec.revision.clone();
        shop.story.event(match delete {
            true => Event::FunctionDeleted { function: version.function, newest: number },
            false => Event::RevisionReplaced { revision: RevisionId { version, number: number + 1 } },
        });
        let ended = shop.story.ended();
        assert_eq!(ended.len(), 2);
        for (instance, _) in ended {
            shop.story.event(Event::InstanceGone { instance });
        }
        shop.story.assert_nothing_left();
    }
}

#[test]
fn where_room_is_short_an_idle_tenant_makes_way_for_one_who_waits() {
    let mut shop = shop();
    let blue = shop.cold("blue");
    shop.story.give_back(&blue);
    let green = shop.waits("green");
    shop.no_room();
    assert_eq!(shop.story.ended(), [(blue.instance, EndReason::Evicted)]);
    shop.story.event(Event::InstanceGone { instance: blue.instance });
    let [again] = shop.story.started()[..] else { panic!("expected one start") };
    shop.story.ready(again);
    assert!(matches!(shop.story.granted()[..], [(granted, _)] if granted == green));
    assert_eq!(shop.tenant_of(again).as_deref(), Some("green"));
}

#[test]
fn a_tenant_with_several_instances_gives_one_up_for_a_tenant_with_none() {
    let mut shop = shop();
    let [one, two] = [(); 2].map(|()| shop.cold("blue"));
    shop.waits("green");
    shop.no_room();
    shop.story.give_back(&one);
    assert_eq!(shop.story.ended(), [(one.instance, EndReason::Evicted)]);
    shop.story.give_back(&two);
    assert_eq!(shop.story.ended(), [], "the last one stays");
}

#[test]
fn a_tenant_whose_instances_are_leaving_keeps_the_last_one() {
    let mut shop = shop();
    let [one, two] = [(); 2].map(|()| shop.cold("blue"));
    shop.waits("green");
    shop.waits("green");
    shop.no_room();
    shop.story.give_back(&one);
    assert_eq!(shop.story.ended(), [(one.instance, EndReason::Evicted)]);
    // Two are owed, and one is on its way out.
    shop.story.give_back(&two);
    assert_eq!(shop.story.ended(), []);
}

#[test]
fn tenants_that_are_there_are_served_by_other_versions_and_after_a_deploy() {
    let most = 4 * TENANTS_PER_THOUSAND / 1_000;
    let limited = FunctionSpec { reserved_concurrency: Some(4), ..spec("f", 1) };
    let mut shop = Shop::new(limited, Config::default());
    for number in 1..most {
        let lease = shop.cold(&number.to_string());
        shop.story.give_back(&lease);
    }
    let _busy = shop.cold("0");
    let mut version = (*shop.spec).clone();
    version.revision.version.version = Version::Published(1);
    let old = std::mem::replace(&mut shop.spec, Arc::new(version));
    shop.waits("0");
    let mut next = (*old).clone();
    next.revision.number = 2;
    shop.story.event(Event::RevisionReplaced { revision: next.revision.clone() });
    shop.spec = Arc::new(next);
    shop.waits("0");
    assert_eq!(shop.ask("another"), Acquired::Refused(Refusal::TenantLimit { limit: most }));
    for (instance, _) in shop.story.ended() {
        shop.story.event(Event::InstanceGone { instance });
    }
    assert!(matches!(shop.ask("another"), Acquired::Waiting(_)), "the old ones are gone");
}

#[test]
fn what_refuses_all_tenants_is_said_before_that_there_are_too_many() {
    let limited =
        |reserved| FunctionSpec { reserved_concurrency: Some(reserved), per_tenant: true, ..spec("f", 1) };
    let mut shop = Shop::new(limited(1), Config::default());
    let lease = shop.cold("0");
    shop.story.give_back(&lease);
    let _busy = shop.cold("1");
    assert_eq!(shop.ask("another"), Acquired::Refused(Refusal::FunctionLimit { limit: 1 }));
    shop.spec = Arc::new(limited(0));
    assert_eq!(shop.ask("another"), Acquired::Refused(Refusal::FunctionLimit { limit: 0 }));
    shop.story.event(Event::FunctionDeleted { function: function("f"), newest: 1 });
    assert_eq!(shop.ask("another"), Acquired::Refused(Refusal::FunctionDeleted));
}

/// A function of which so many tenants wait for room, behind two that one of them has.
fn flooded(tenants: usize) -> (Shop, [Lease; 2]) {
    let mut shop = shop();
    let busy = [(); 2].map(|()| shop.cold("busy"));
    for number in 0..tenants {
        shop.waits(&number.to_string());
        shop.no_room();
    }
    (shop, busy)
}

#[test]
fn room_goes_to_another_function_however_many_tenants_wait() {
    for tenants in [1, 63, 64, 100, 400] {
        let (mut shop, [lease, _]) = flooded(tenants);
        let modest = shop.story.waits(spec("g", 1));
        shop.no_room();
        assert_eq!(shop.room_of(&lease), [modest], "{tenants} tenants");
    }
}

#[test]
fn a_function_makes_way_for_another_however_many_of_its_tenants_wait() {
    for tenants in [1, 100] {
        let (mut shop, [lease, _]) = flooded(tenants);
        let modest = shop.story.waits(spec("g", 1));
        shop.no_room();
        shop.story.give_back(&lease);
        assert_eq!(shop.story.ended(), [(lease.instance, EndReason::Evicted)]);
        assert_eq!(shop.room_of(&lease), [modest], "{tenants} tenants");
    }
}

#[test]
fn tenants_that_wait_for_room_have_it_in_the_order_they_came() {
    let (mut shop, busy) = flooded(3);
    for (number, lease) in busy.iter().enumerate() {
        shop.story.event(Event::InstanceGone { instance: lease.instance });
        let [start] = shop.story.started()[..] else { panic!("expected one start") };
        assert_eq!(shop.tenant_of(start), Some(number.to_string()));
    }
}
