//! Warming up a cache: how much of it is filled, and that a failure is no more than that.

use std::sync::Arc;
use std::time::Duration;

use rolegate::domain::ids::MemberId;
use rolegate::service::warm_up::{WarmUp, Warmed};
use rolegate::store::{Cached, ChangeListener, DecisionSource, Freshness, Moment};

use crate::cache::unhurried;
use crate::pages::House;

const WARM_UP: WarmUp = WarmUp { tenants: 3, timeout: Duration::from_secs(60) };

/// A cache of so many bytes that is current.
fn cache(house: &House, bytes: u64) -> Arc<Cached> {
    let cache = Arc::new(Cached::new(house.store.clone(), bytes, unhurried()));
    let listener: Arc<dyn ChangeListener> = Arc::clone(&cache) as _;
    assert!(house.store.set_listener(listener).is_ok());
    cache.following().confirm(Moment::now());
    cache
}

#[tokio::test]
async fn all_members_are_there_where_they_fit() {
    let house = House::of(2_500, 0).await;
    let bytes = 64 << 20;
    let cache = cache(&house, bytes);
    let warmed = WARM_UP.run(&house.store, &cache, bytes).await;
    assert_eq!(warmed, Warmed { tenants: 1, members: 2_500 });
    let before = cache.stats();
    assert_eq!((before.member_misses, before.bypasses), (2_500, 0));
    for n in [0, 7, 999, 1_000, 1_001, 2_499] {
        let member = MemberId::trusted(&format!("m{n:06}"));
        let view = cache.view(&house.tenant, &[member], Freshness::MinimizeLatency).await.unwrap();
        assert_eq!(view.unwrap().members.len(), 1);
    }
    assert_eq!(cache.stats().member_misses, before.member_misses);
    assert_eq!(cache.stats().role_misses, before.role_misses);
}

#[tokio::test]
async fn a_small_cache_is_filled_to_half() {
    let house = House::of(5_000, 0).await;
    let bytes = 1 << 20;
    let cache = cache(&house, bytes);
    let Warmed { tenants, members } = WARM_UP.run(&house.store, &cache, bytes).await;
    assert_eq!(tenants, 1);
    assert!((500..4_500).contains(&members), "{members}");
    assert!(cache.is_half_full());
    // What came first is still there: nothing has been driven out.
    let before = cache.stats().member_misses;
    for n in 0..100 {
        let member = MemberId::trusted(&format!("m{n:06}"));
        cache.view(&house.tenant, &[member], Freshness::MinimizeLatency).await.unwrap();
    }
    assert_eq!(cache.stats().member_misses, before);
}

#[tokio::test]
async fn a_database_that_fails_leaves_it_cold() {
    let house = House::of(10, 0).await;
    let cache = cache(&house, 1 << 20);
    house.store.close().await;
    assert_eq!(WARM_UP.run(&house.store, &cache, 1 << 20).await, Warmed::default());
}
