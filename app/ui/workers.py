"""Who works on the queues, as a small table."""

import streamlit as st

from voxelight.app.services import Services


def show_workers(services: Services) -> None:
    """Show the workers to who may see them, and how long the oldest job waits."""
    if services.principal is not None and not services.principal.admin:
        return
    st.subheader("Workers")
    rows = services.workers.list(alive=True)
    if not rows:
        st.markdown("None lives: jobs wait until one is started, `voxelight worker --queue cpu` for one.")
    else:
        st.dataframe(
            [
                {
                    "Worker": row.name,
                    "State": row.state,
                    "Queues": ", ".join(row.queues),
                    "Jobs": row.at_work,
                    "Memory, GiB": row.memory_gib and round(row.memory_gib, 1),
                    "Card": row.card,
                    "Kept loaded": ", ".join(sorted(row.warm_bytes)),
                }
                for row in rows
            ],
            hide_index=True,
        )
    for queue in services.workers.queues():
        if queue.waiting:
            st.markdown(f"The oldest of {queue.waiting} on the queue {queue.queue} waits for {queue.oldest_s:.0f} s.")
