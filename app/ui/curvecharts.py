"""Curves of a training as charts: losses, and Dice of the cases that are looked at."""

from collections.abc import Callable, Sequence

import altair as alt
import pandas as pd
import streamlit as st

from voxelight.app.schemas_training import CurveAnswer

_HEIGHT = 260


def show_curves(curves: Sequence[CurveAnswer], terms: Sequence[str] = ()) -> None:
    """Draw the loss of every item, and beside it its terms, or the Dice over validation cases where there are any."""
    losses = _tabulate(curves, lambda name: name == "loss")
    beside = _tabulate(curves, lambda name: name in terms or (not terms and name.startswith("dice ")))
    if losses.empty:
        st.caption("No step was taken yet: what is trained on is read and prepared first.")
        return
    if beside.empty:
        st.altair_chart(_draw(losses, "Loss", log=True), width="stretch")
        st.caption("Nobody is looked at while it trains; the held-out fold is scored at its end.")
        return
    left, right = st.columns(2)
    left.altair_chart(_draw(losses, "Loss", log=True), width="stretch")
    title = "Terms of the loss" if terms else "Dice of validation cases"
    right.altair_chart(_draw(beside, title, log=bool(terms)), width="stretch")


def show_steps(curves: Sequence[CurveAnswer], stopped: bool) -> None:
    """Show how far each item is, in steps, with the last loss and Dice; one of a stopped job is about to end."""
    for curve in curves:
        last = curve.points[-1] if curve.points else None
        done = last.step + 1 if last else 0
        total = done if curve.status == "done" else curve.steps
        said = [f"{name} {last.values[name]:.4f}" for name in ("loss",) if last and name in last.values]
        dice = [point.values["dice"] for point in curve.points if "dice" in point.values]
        said += [f"Dice {dice[-1]:.3f}, best {max(dice):.3f}"] if dice else []
        state = "stopping" if stopped and curve.status == "running" else curve.status
        text = f"{curve.item}: {state}, step {done} of {total}" + (f", {', '.join(said)}" if said else "")
        st.progress(min(1.0, done / max(1, total)), text=text)


def _tabulate(curves: Sequence[CurveAnswer], wanted: Callable[[str], bool]) -> pd.DataFrame:
    rows = [
        {"Step": point.step + 1, "Value": value, "Line": _name(curve, name, len(curves))}
        for curve in curves
        for point in curve.points
        for name, value in point.values.items()
        if wanted(name)
    ]
    return pd.DataFrame(rows, columns=["Step", "Value", "Line"])


def _name(curve: CurveAnswer, name: str, curves: int) -> str:
    label = name.removeprefix("dice ") if name != "loss" else ""
    return " ".join(filter(None, (curve.item if curves > 1 or not label else "", label)))


def _draw(table: pd.DataFrame, title: str, log: bool) -> alt.Chart:
    scale = alt.Scale(type="log") if log and (table["Value"] > 0).all() else alt.Scale(zero=False)
    chart = alt.Chart(table, height=_HEIGHT, title=title).mark_line(point=len(table) < 40)
    drawn: alt.Chart = chart.encode(
        x=alt.X("Step:Q", title="Step"),
        y=alt.Y("Value:Q", title=None, scale=scale),
        color=alt.Color("Line:N", title=None, legend=alt.Legend(orient="bottom")),
        strokeDash=alt.StrokeDash("Line:N", legend=None),
        tooltip=[alt.Tooltip("Line:N"), alt.Tooltip("Step:Q"), alt.Tooltip("Value:Q", format=".4f")],
    )
    return drawn
