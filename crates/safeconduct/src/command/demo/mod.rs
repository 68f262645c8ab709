//! `demo`: the product's story on a terminal, against a real suite and a real (small) API, each a process of its own.

mod lead;
mod site;
mod story;
mod teller;
mod waterfall;

use tokio::signal::unix::{SignalKind, signal};

use crate::cli::DemoArgs;
use crate::exit::{Code, Failure, Outcome};
use crate::say::complain;

pub(crate) fn run(args: &DemoArgs) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::internal)?;
    runtime.block_on(async {
        tokio::select! {
            outcome = play(args) => outcome,
            // What was started ends with the story, however that ends.
            stopped = told_to_stop() => stopped.map(|()| Code::INTERRUPTED).map_err(Failure::internal),
        }
    })
}

async fn told_to_stop() -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}

async fn play(args: &DemoArgs) -> Outcome {
    let mut teller = teller::Teller::new();
    teller.title("Safeconduct: the way an AI agent acts for a person");
    teller.say("Starting the suite (identity, otp, connector, admission) on its embedded store, and a sample shop.");
    let site = site::Site::start(args.dir.as_deref(), args.once).await?;
    let told = story::tell(&site, &mut teller).await;
    if let Err(failure) = &told {
        complain!("{}", site.last_words());
        return Err(Failure::internal(failure));
    }
    if teller.failures() > 0 {
        complain!("{}", site.last_words());
        return Err(Failure::refused(format!("{} steps did not come out as told", teller.failures())));
    }
    teller.title("Every step came out as told.");
    if args.once {
        return Ok(Code::SUCCESS);
    }
    site.print_commands(&teller);
    told_to_stop().await.map_err(Failure::internal)?;
    Ok(Code::SUCCESS)
}
