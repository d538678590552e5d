//! A dead backend that every list still names.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::cast;
use crate::screen::Screen;
use crate::stage::Stage;

/// Enough that each of two backends would be drawn.
const REQUESTS: usize = 20;

pub fn one_dies(stage: &mut Stage, screen: &Screen) -> Result<()> {
    screen.typed("node2", "kill -9 <nginx of shop/web-1>   # the EndpointSlice still lists it as ready");
    stage.mesh.pod_mut("shop/web-1")?.kill_programs();
    let line = format!(
        "for i in $(seq {REQUESTS}); do curl -sS --max-time 5 http://web.shop/; done | cut -d' ' -f1 | sort | uniq -c"
    );
    let answers = stage.run(screen, "shop/customer", &line)?.expect_success()?;
    ensure!(answers.trim() == format!("{REQUESTS} shop/web-2"), "not every request was answered by web-2: {answers}");
    screen.proven(&format!("{REQUESTS} of {REQUESTS} new connections were answered by shop/web-2"));
    cast::nginx(&mut stage.mesh, "shop/web-1")?;
    stage.mesh.pod_mut("shop/web-1")?.await_listener(8080, Duration::from_secs(10))
}
