"""Delete for good, from any page: what would go is said first, and its name has to be typed."""

import streamlit as st

from voxelight.app.schemas_deletion import DeletionAnswer, DeletionRequest, DeletionTarget
from voxelight.app.services import Services
from voxelight.app.ui.links import tell_more
from voxelight.app.ui.problems import build, problems_shown, show_problem
from voxelight.app.ui.wording import plain, say_size
from voxelight.models.errors import VoxelightError

_HELP = "Rows, files, vectors, reports and what was cached; a receipt of counts and hashes stays. " + tell_more(
    "deletion"
)


_PROOF = "Search database, files, vectors, caches and logs for it afterwards. Takes as long as reading it all."
_MODELS = {"delete": "go too", "keep": "stay, and are marked"}


def show_deletion(services: Services, target: DeletionTarget) -> None:
    """Offer to delete something.

    Parameters
    ----------
    services : where it is stored
    target : what
    """
    key = f"delete-{target.what}-{target.id or target.dataset}-{target.subject or ''}"
    wanted = st.toggle(f"Delete this {_say(target)}", key=f"{key}-wanted", help=_HELP)
    if wanted:
        with st.container(border=True), problems_shown():
            _ask(services, target, services.deletion.plan(target), key)


def _ask(services: Services, target: DeletionTarget, planned: DeletionAnswer, key: str) -> None:
    st.markdown(f"**This goes for good:** {say_counts(planned)}.")
    if planned.shared:
        st.caption(f"{planned.shared} files stay: something else has the same content.")
    if planned.models:
        st.caption(f"Trained on it: {plain(', '.join(planned.models))}. Weights are fitted to the data.")
    problem = st.session_state.get(f"{key}-problem")
    with st.form(key, border=False, enter_to_submit=False):
        st.text_input(f"Type {planned.confirm} to confirm", key=f"{key}-confirm")
        if problem is not None:
            show_problem(problem)
        if planned.models:
            st.radio("These models", list(_MODELS), index=None, format_func=_MODELS.get, key=f"{key}-models")
        st.text_input("Your name", st.session_state.get("author", ""), key=f"{key}-author", max_chars=120)
        st.text_input("Reason", key=f"{key}-reason", max_chars=2000, help="Stands in the receipt with your name.")
        st.checkbox("Prove it", key=f"{key}-prove", help=_PROOF)
        st.form_submit_button(
            "Delete for good", type="primary", on_click=_delete, args=(services, target, key), key=f"{key}-send"
        )


def _delete(services: Services, target: DeletionTarget, key: str) -> None:
    confirm, author, reason = (st.session_state[f"{key}-{field}"].strip() for field in ("confirm", "author", "reason"))
    st.session_state["author"] = author
    st.session_state.pop(f"{key}-problem", None)
    try:
        said = {"models": st.session_state.get(f"{key}-models"), "prove": st.session_state[f"{key}-prove"]}
        request = build(DeletionRequest, confirm=confirm, author=author, reason=reason, **said)
        done = services.deletion.delete(target, request)
    except VoxelightError as error:
        st.session_state[f"{key}-problem"] = error
        return
    st.cache_data.clear()  # pictures and reports that the page keeps in memory
    st.session_state["deleted"] = done


def show_last_deletion(services: Services) -> None:
    """Say what was deleted last in this visit, with its receipt, until that is closed."""
    done: DeletionAnswer | None = st.session_state.get("deleted")
    if done is not None:
        with st.container(border=True):
            _show_receipt(services, done)
            if st.button("Close", key="deleted-close", type="tertiary"):
                del st.session_state["deleted"]
                st.rerun()


def _show_receipt(services: Services, done: DeletionAnswer) -> None:
    st.success(f"Deleted {done.what} {plain(done.name)}: {say_counts(done)}.", icon=":material/delete_forever:")
    if done.proof:
        left = [place for each in done.proof for place in each.found]
        looked = sum(each.things for each in done.proof)
        st.caption(f"Searched {looked} rows and files for it. Found: {', '.join(map(plain, left)) or 'nothing'}.")
    if done.receipt:
        receipt = services.deletion.show_receipt(done.receipt)
        st.download_button(
            "Receipt",
            receipt.model_dump_json(indent=2),
            f"receipt-{receipt.id}.json",
            "application/json",
            key=f"receipt-{receipt.id}",
            icon=":material/download:",
            on_click="ignore",
        )


def say_counts(answer: DeletionAnswer) -> str:
    """Return what goes, in words."""
    counted = [(what, count) for what, count in answer.counts.items() if what != "bytes"]
    parts = [f"{count} {what.removesuffix('s') if count == 1 else what}" for what, count in counted]
    size = answer.counts.get("bytes")
    return ", ".join(parts) + (f" ({say_size(size)})" if size else "")


def _say(target: DeletionTarget) -> str:
    return {"dataset": "data set"}.get(target.what, target.what)
