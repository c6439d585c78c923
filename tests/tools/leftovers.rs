//! What editors and tools leave behind would be stray keys: `pending` and the commit's report point them out.

use crate::bench::{Bench, sample};
use crate::common::tree::Edit;

const REMARK: &str = "looks like an editor's leftover";

as_everybody! {
    fn every_kind_of_leftover_is_pointed_out(user) {
        let mut bench = Bench::new(user);
        let names = [
            "#lines#", ".#lines", ".lines.swo", ".lines.swp", ".nfs000000000123abcd00000001", "4913", "lines.bak",
            "lines~", "sedAb3dEf",
        ];
        for name in names {
            bench.sh(&format!("echo x >'config/{name}'"));
            bench.expect(&format!("config/{name}"), "x\n");
        }
        let expected: Vec<_> = names.iter().map(|name| format!("added config/{name} 2 {REMARK}")).collect();
        assert_eq!(bench.pending(), expected);
        let report = bench.commit();
        for name in names {
            assert!(report.contains(&format!("config/{name}")), "{name} is not in {report}");
        }
    }

    /// Of names that only look similar nobody is warned, nor of what was in the database before.
    fn no_false_alarm(user) {
        let mut tree = sample();
        let old = Edit::Put { path: vec![b"config".to_vec()], key: b"4913".to_vec(), value: b"an id".to_vec() };
        tree.apply(&old).expect("a key");
        let mut bench = Bench::of(user, tree);
        for name in [".hidden", "49130", "backup.swp", "sediment", "sedan", "~", ".swp", "#1", "sed-12345", "4913"] {
            bench.sh(&format!("echo x >'config/{name}'"));
            bench.expect(&format!("config/{name}"), if name == "4913" { "x" } else { "x\n" });
        }
        assert!(bench.pending().iter().all(|line| !line.contains(REMARK)), "{:?}", bench.pending());
        let report = bench.commit();
        assert!(!report.contains("leftover"), "{report}");
    }

    /// A bucket of that name, or a key renamed to it, is one as well.
    fn leftovers_by_other_ways(user) {
        let mut bench = Bench::new(user);
        bench.sh("mv config/lines config/lines~; cp -r config/nested config/nested~");
        let pending = bench.pending();
        let marked: Vec<_> = pending.iter().filter(|line| line.contains(REMARK)).cloned().collect();
        assert_eq!(marked, [format!("added config/lines~ 14 {REMARK}"), format!("added config/nested~/ {REMARK}")], "{pending:?}");
        let nested = bench.expected("config").nodes.remove(&b"lines"[..]).expect("it is there");
        bench.expected("config").nodes.insert(b"lines~".to_vec(), nested);
        let mut nested = bench.expected("config/nested").clone();
        nested.seq = 0;
        bench.expect_bucket("config/nested~");
        *bench.expected("config/nested~") = nested;
        bench.commit();
    }

    /// A report names some, counts the rest, and stays readable.
    fn a_report_of_many_leftovers_is_short(user) {
        let mut bench = Bench::new(user);
        bench.sh("for i in $(seq 100); do echo x >config/f$i~; done");
        for number in 1..=100 {
            bench.expect(&format!("config/f{number}~"), "x\n");
        }
        let report = bench.commit();
        assert!(report.contains("config/f100~") && report.contains("and 90 more") && report.lines().count() < 30, "{report}");
    }
}
