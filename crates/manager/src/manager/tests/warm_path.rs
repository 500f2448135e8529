//! The warm path does not allocate.

use super::*;

fn shared(number: usize) -> FunctionSpec {
    let concurrency = Concurrency::new(2, 3);
    FunctionSpec { concurrency, reserved_concurrency: Some(50), ..spec(&format!("function-{number}"), 1) }
}

/// Takes and gives back two slots of every function, twenty times over.
fn go_round(manager: &mut Manager, requests: &[LeaseRequest], now: Time) {
    let mut actions = Vec::new();
    for _ in 0..20 {
        for request in requests {
            let [a, b] = [(); 2].map(|()| match manager.acquire(now, request, &mut actions) {
                Acquired::Leased(lease) => lease,
                Acquired::Waiting(_) | Acquired::Refused(_) => panic!("not warm"),
            });
            manager.release(now, a.id, LeaseOutcome::Reusable, &mut actions);
            manager.release(now, b.id, LeaseOutcome::Reusable, &mut actions);
        }
    }
    assert!(actions.is_empty());
}

#[test]
fn a_warm_acquire_and_release_do_not_allocate() {
    let mut manager = Manager::new(Config { epoch: 2, ..Config::default() });
    // Of tenants, too: a few whose functions are the same.
    let tenant = |number: usize| (number % 5 == 4).then(|| tenant(&number.to_string()));
    let specs: Vec<_> = (0..40).map(|number| Arc::new(shared(number))).collect();
    let request =
        |number: usize| LeaseRequest { spec: Arc::clone(&specs[number % 40]), tenant: tenant(number) };
    let requests: Vec<_> = (0..50).map(request).collect();
    for (number, request) in (0..).zip(&requests) {
        for copy in 0..4 {
            let LeaseRequest { spec, tenant } = request.clone();
            let instance = InstanceId::new(1, number * 4 + copy);
            let event = Event::InstanceFound { instance, worker: local(), spec, tenant };
            manager.handle(Time::ZERO, event, &mut Vec::new());
        }
    }
    go_round(&mut manager, &requests, Time::ZERO);
    let info = allocation_counter::measure(|| go_round(&mut manager, &requests, Time::from_millis(1)));
    assert_eq!(info.count_total, 0);
}
