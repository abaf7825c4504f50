"""Who looks at the page: nothing shows before somebody signed in, where accounts are asked for."""

import streamlit as st

from voxelight.app.auth import COOKIE, SIGN_IN, leave
from voxelight.app.services import Services
from voxelight.app.ui.wording import plain
from voxelight.app.web import all_services, current_services
from voxelight.models.errors import Unauthenticated


def ask_who_looks() -> Services:
    """Return the services as whoever looks may use them; without a sign-in, show the way to one and nothing else."""
    try:
        services = current_services()
    except Unauthenticated:
        st.title("Voxelight")
        st.html(f'<a class="vx-sign-in" href="{SIGN_IN}" target="_self">Sign in</a>')
        st.stop()
    if services.principal is not None and not services.principal.may("viewer"):
        st.title("Voxelight")
        st.markdown("You belong to no project yet. Ask an administrator for a place in one, then load this page again.")
        show_account(services)
        st.stop()
    return services


def show_account(services: Services) -> None:
    """Say who is signed in, with a way out; nothing where nobody is asked who they are."""
    who = services.principal
    if who is None:
        return
    with st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center", gap="small"):
        roles = ", ".join(f"{role} in {project}" for project, role in sorted(who.roles.items()))
        st.caption(
            f"Signed in as **{plain(who.name)}**",
            help="Administers this installation" if who.admin else plain(roles) or "In no project yet",
            width="content",
        )
        if st.button("Sign out", type="tertiary", icon=":material/logout:"):
            leave(all_services(), st.context.cookies.get(COOKIE, ""))
            st.rerun()
