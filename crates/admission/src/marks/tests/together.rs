//! Changes that are made in one commit.

use super::*;

#[tokio::test]
async fn what_is_cleared_makes_room_for_what_is_set_in_the_same_commit() {
    let fixture = Fixture::new().await;
    let marks = fixture.within(Budgets { gone: 1, stale: 1, ended: 1, kept: 1 });
    marks.set(mark(disabled("one")), op()).await.unwrap();
    // The first goes alone; the others wait for it, and go together.
    let one = disabled("one");
    let (again, cleared, set) = tokio::join!(
        marks.set(mark(disabled("one")), op()),
        marks.clear(&one, op()),
        marks.set(mark(disabled("other")), op()),
    );
    assert!(again.is_ok() && cleared.unwrap().0, "it was there");
    assert!(set.is_ok(), "{set:?}");
    assert_eq!(marks.set(mark(disabled("third")), op()).await.unwrap_err().reason(), Reason::Overloaded);
}

#[tokio::test]
async fn those_who_set_and_clear_marks_at_once_share_commits_and_each_gets_its_own_answer() {
    let fixture = Fixture::new().await;
    let (twice, again) = (op(), mark(disabled("twice")));
    let one = async |n: usize| match n % 4 {
        0 => fixture
            .marks
            .clear(&disabled(&format!("c{}", n + 1)), op())
            .await
            .map(|(was_there, _)| usize::from(was_there)),
        1 => fixture.marks.set(mark(disabled(&format!("c{n}"))), op()).await.map(|_| 2),
        2 => fixture
            .marks
            .clear(&disabled(&format!("c{}", n - 1)), op())
            .await
            .map(|(was_there, _)| usize::from(was_there)),
        _ => fixture.marks.set(again.clone(), twice).await.map(|mark| usize::try_from(mark.revision).unwrap()),
    };
    let answers = futures_util::future::join_all((0..200).map(one)).await;
    let answers: Vec<usize> = answers.into_iter().map(Result::unwrap).collect();
    let first = answers[3];
    for four in answers.chunks(4) {
        // In their order: not there yet, set, there; and one operation has one answer.
        assert_eq!(four, [0, 2, 1, first]);
    }
    let commits = fixture.gate.commits.load(Ordering::SeqCst);
    assert!(commits <= 8, "101 changes in {commits} commits");
    for marks in [fixture.marks.clone(), fixture.other()] {
        marks.sync().await.unwrap();
        assert_eq!(marks.read(|board| (board.revision(), board.count(budget::Class::Kept, NOON))), (101, 1));
    }
}

#[tokio::test]
async fn whoever_gives_up_while_a_commit_is_under_way_leaves_nobody_waiting() {
    let fixture = Fixture::new().await;
    fixture.marks.set(mark(disabled("first")), op()).await.unwrap();
    fixture.gate.stop_commits.store(true, Ordering::SeqCst);
    let set = |name: &str| {
        let (marks, mark) = (fixture.marks.clone(), mark(disabled(name)));
        let mut task = tokio::task::JoinSet::new();
        task.spawn(async move { marks.set(mark, op()).await.unwrap().revision });
        task
    };
    let mut leaves = set("leaves");
    fixture.gate.stopped.notified().await;
    let (mut also_leaves, mut stays) = (set("leaves-too"), set("stays"));
    while fixture.marks.0.turns.count() < 2 {
        tokio::task::yield_now().await;
    }
    fixture.gate.go_on.notify_one();
    leaves.join_next().await.unwrap().unwrap();
    // Now one of the two makes the changes of both.
    fixture.gate.stopped.notified().await;
    also_leaves.shutdown().await;
    fixture.gate.stop_commits.store(false, Ordering::SeqCst);
    fixture.gate.go_on.notify_one();
    let revision = tokio::time::timeout(Duration::from_secs(20), stays.join_next()).await.expect("not kept waiting");
    assert_eq!(revision.unwrap().unwrap(), 3, "who has given up sets nothing");
}
