//! The packet filter's table, as text for `nft`. Names and numbers in it are this crate's own; of what a tenant says there are
//! only networks and ports that were read as such.

use std::fmt::Write;
use std::net::Ipv4Addr;

use hearth_types::Egress;

use crate::plan::{Place, Plan, all};

/// Nobody's to reach: this host, loopback, link-local, other instances, multicast, reserved.
const NEVER: &str = "0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/4, 240.0.0.0/4";

/// The table of a worker, in place of one of that name.
pub(crate) fn table(plan: &Plan, resolvers: &[Ipv4Addr]) -> String {
    let Place { table, links } = Place::of(plan.block);
    let instances = all();
    let names = if resolvers.is_empty() {
        String::new()
    } else {
        let resolvers: Vec<String> = resolvers.iter().map(Ipv4Addr::to_string).collect();
        format!("ip daddr {{ {} }} meta l4proto {{ tcp, udp }} th dport 53 accept", resolvers.join(", "))
    };
    format!(
        r#"table inet {table}
delete table inet {table}
table inet {table} {{
  map policies {{ type devgroup : verdict; }}
  chain refused {{
    meta l4proto tcp reject with tcp reset
    reject with icmpx admin-prohibited
  }}
  chain from_instance {{
    meta nfproto ipv6 drop
    fib saddr . iif oif missing drop
    ct state established,related accept
    oifname "{links}*" goto refused
    {names}
    ip daddr {{ {NEVER}, {instances} }} goto refused
    iifgroup vmap @policies
    goto refused
  }}
  chain to_instance {{
    ct state established,related accept
    drop
  }}
  chain to_worker {{
    meta nfproto ipv6 drop
    fib saddr . iif oif missing drop
    ct state established,related accept
    {names}
    goto refused
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname "{links}*" goto from_instance
    oifname "{links}*" goto to_instance
  }}
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname "{links}*" goto to_worker
  }}
  chain output {{
    type filter hook output priority filter; policy accept;
    oifname "{links}*" goto to_instance
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname "{links}*" return
    ip saddr {instances} masquerade
  }}
}}
"#
    )
}

/// What takes a worker's table away.
pub(crate) fn no_table(block: u32) -> String {
    let Place { table, .. } = Place::of(block);
    format!("table inet {table}\ndelete table inet {table}\n")
}

/// What adds the chain of a policy, for links of that group.
pub(crate) fn policy(plan: &Plan, group: u32, egress: &Egress) -> String {
    let Place { table, .. } = Place::of(plan.block);
    let mut text = format!("add chain inet {table} policy_{group}\n");
    let rules: Vec<String> = match egress {
        Egress::None => Vec::new(),
        Egress::All => vec!["accept".to_owned()],
        Egress::Only(rules) => rules
            .iter()
            .map(|rule| {
                let (network, ports) = (rule.network(), rule.ports());
                let (first, last) = (ports.start(), ports.end());
                format!("ip daddr {network} meta l4proto {{ tcp, udp }} th dport {first}-{last} accept")
            })
            .collect(),
    };
    for rule in rules {
        // To a string it cannot fail.
        let _ = writeln!(text, "add rule inet {table} policy_{group} {rule}");
    }
    let _ = writeln!(text, "add element inet {table} policies {{ {group} : jump policy_{group} }}");
    text
}

/// What removes the chains of policies that nobody uses.
pub(crate) fn without(plan: &Plan, groups: &[u32]) -> String {
    let Place { table, .. } = Place::of(plan.block);
    let mut text = String::new();
    for group in groups {
        let _ = writeln!(text, "delete element inet {table} policies {{ {group} }}");
        let _ = writeln!(text, "delete chain inet {table} policy_{group}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan::of(2 * 2_048 + 7).unwrap()
    }

    #[test]
    fn a_table_knows_only_its_own_links() {
        let text = table(&plan(), &[Ipv4Addr::new(192, 0, 2, 53)]);
        assert!(
            text.starts_with("table inet hearth_2\ndelete table inet hearth_2\ntable inet hearth_2 {"),
            "{text}"
        );
        for hook in ["forward", "input", "output"] {
            let chain = text.split(&format!("hook {hook} ")).nth(1).unwrap().split('}').next().unwrap();
            let rules: Vec<&str> =
                chain.lines().skip(1).map(str::trim).filter(|line| !line.is_empty()).collect();
            assert!(rules.iter().all(|rule| rule.contains("\"hth2.*\"")), "{hook}: {rules:?}");
        }
        assert!(
            text.contains("ip daddr { 192.0.2.53 } meta l4proto { tcp, udp } th dport 53 accept"),
            "{text}"
        );
        assert!(!table(&plan(), &[]).contains("dport 53"));
    }

    #[test]
    fn a_policy_allows_what_was_said_and_nothing_more() {
        let text = policy(&plan(), 3, &"10.0.0.0/8:443,192.0.2.7".parse().unwrap());
        let wanted = "add chain inet hearth_2 policy_3\n\
                      add rule inet hearth_2 policy_3 ip daddr 10.0.0.0/8 meta l4proto { tcp, udp } th dport 443-443 accept\n\
                      add rule inet hearth_2 policy_3 ip daddr 192.0.2.7/32 meta l4proto { tcp, udp } th dport 1-65535 accept\n\
                      add element inet hearth_2 policies { 3 : jump policy_3 }\n";
        assert_eq!(text, wanted);
        assert!(!policy(&plan(), 3, &Egress::None).contains("accept"));
        assert!(without(&plan(), &[3, 4]).contains("delete chain inet hearth_2 policy_4"));
    }
}
