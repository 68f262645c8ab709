use std::collections::BTreeSet;

use super::*;
use crate::address::{Channel, PlusTags};

fn address(channel: Channel, text: &str) -> Address {
    Address::parse(channel, text, PlusTags::Keep).unwrap()
}

fn names(budgets: &[Budget]) -> Vec<&'static str> {
    budgets.iter().map(|one| one.name).collect()
}

#[test]
fn the_asker_pays_before_anybody_else_does() {
    let budgets = Budgets::default();
    assert!(asker(&budgets, true).iter().all(|one| one.is_own && matches!(one.of, Of::Session | Of::Network)));
    assert_eq!(asker(&budgets, false).len(), 1, "a network that nobody knows is no one network");
    let target = target(&budgets, &address(Channel::Sms, "+353851234567"), Nearness::Stranger);
    assert!(target.iter().all(|one| !one.is_own), "what is left of it would tell of others");
}

#[test]
fn a_network_that_proved_the_address_takes_nothing_that_strangers_can_use_up() {
    let (budgets, ann) = (Budgets::default(), address(Channel::Email, "ann@example.com"));
    let strangers = target(&budgets, &ann, Nearness::Stranger);
    let familiar = target(&budgets, &ann, Nearness::Familiar);
    assert!(strangers.iter().any(|one| one.of == Of::Address));
    assert!(target(&budgets, &ann, Nearness::Unknown).iter().any(|one| one.of == Of::Address));
    assert!(!familiar.iter().any(|one| one.of == Of::Address));
    let of_pair = |all: &[Budget]| {
        let one = all.iter().find(|one| matches!(one.of, Of::AddressAndNetwork | Of::AddressAndHome)).unwrap();
        (one.of, (one.name, one.max, one.within, one.is_own))
    };
    let ((stranger, told), (home, told_at_home)) = (of_pair(&strangers), of_pair(&familiar));
    assert_ne!(stranger, home, "what it took as a stranger does not count any more");
    assert_eq!(told, told_at_home, "nobody learns from a refusal that somebody was here before");
}

#[test]
fn text_messages_are_bounded_by_block_country_and_workspace() {
    let budgets = Budgets::default();
    let sms = target(&budgets, &address(Channel::Sms, "+353851234567"), Nearness::Familiar);
    for of in [Of::Prefix, Of::Country, Of::Workspace, Of::Caller] {
        assert!(sms.iter().any(|one| one.of == of), "{of:?}");
    }
    let email = target(&budgets, &address(Channel::Email, "ann@example.com"), Nearness::Familiar);
    assert!(!names(&email).iter().any(|name| names(&sms).contains(name) && name.contains("text")));
}

#[test]
fn counters_are_told_apart_by_what_they_count_and_by_nothing_else() {
    let namer = Namer::new(&Secret::new(vec![7; 32]));
    let (acme, globex) = ("acme".parse().unwrap(), "globex".parse().unwrap());
    let session = |digit: &str| format!("ses_{}", digit.repeat(32)).parse().unwrap();
    let (one, two): (SessionId, SessionId) = (session("1"), session("2"));
    let network = |text: &str| Network::of(text.parse().unwrap());
    let (here, there) = (network("192.0.2.1"), network("198.51.100.1"));
    let (caller, ann) = ("messenger".parse().unwrap(), address(Channel::Email, "ann@example.com"));
    let parties = Parties { workspace: &acme, session: &one, network: Some(&here), caller: &caller, address: &ann };
    let of_address = namer.counter(Of::Address, &parties);
    let elsewhere = Parties { session: &two, network: Some(&there), ..parties };
    assert_eq!(of_address, namer.counter(Of::Address, &elsewhere), "over all sessions and networks");
    assert_ne!(of_address, namer.counter(Of::Address, &Parties { workspace: &globex, ..parties }));
    assert_ne!(namer.counter(Of::Session, &parties), namer.counter(Of::Session, &elsewhere));
    assert_ne!(namer.counter(Of::AddressAndNetwork, &parties), namer.counter(Of::AddressAndNetwork, &elsewhere));
    let (a, b) = (address(Channel::Sms, "+353851230001"), address(Channel::Sms, "+353851239999"));
    let block = |address| namer.counter(Of::Prefix, &Parties { address, ..parties });
    assert_eq!(block(&a), block(&b));
    assert_ne!(block(&a), block(&address(Channel::Sms, "+353851240001")));
    let all =
        [Of::Session, Of::Network, Of::Caller, Of::Address, Of::AddressAndNetwork, Of::AddressAndHome, Of::Workspace];
    let distinct: BTreeSet<_> = all.map(|of| namer.counter(of, &parties)).into_iter().collect();
    assert_eq!(distinct.len(), all.len());
}

#[test]
fn a_network_is_a_24_or_a_48_however_it_is_written() {
    let network = |text: &str| Network::of(text.parse().unwrap()).as_str().to_owned();
    assert_eq!(network("192.0.2.77"), "192.0.2.0/24");
    assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.0/24");
    assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1::/48");
    assert!(!format!("{:?}", Network::of("192.0.2.77".parse().unwrap())).contains("192"));
}
