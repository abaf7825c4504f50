"""Talk to scanners and archives: receive by C-STORE; query, retrieve and store by DICOMweb."""

import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxelight.app.cli.answers import ArchiveRow, CountAnswer
from voxelight.app.cli.processes import stopping
from voxelight.app.cli.shell import Shell, Verb, ask
from voxelight.app.schemas_privacy import RelinkRequest

if TYPE_CHECKING:
    from voxelight.app.hospital.inbox import Inbox

LOOK_S = 0.5
_PEM = click.Path(path_type=Path, dir_okay=False, exists=True)
_FILTERS = {"patient": "PatientID", "date": "StudyDate", "modality": "Modality", "accession": "AccessionNumber",
            "study": "StudyInstanceUID"}  # fmt: skip


def where(command: Callable[..., Any]) -> Callable[..., Any]:
    """Ask a command where series go."""
    for option in (
        click.option("--recipe", default="", help="Segment what came in, as a job of this recipe."),
        click.option("--subject", default="", help="Label of the subject; else a pseudonym of the patient's number."),
        click.option("--dataset", required=True, help="Name of the data set."),
    ):
        command = option(command)
    return command


@click.command("receive", cls=Verb)
@where
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; others need both lists.")
@click.option("--port", default=11112, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on.")
@click.option("--aet", default="VOXELIGHT", show_default=True, help="Title of this node, by which it has to be called.")
@click.option("--allow-aet", multiple=True, help="Title that may call; repeat for more.")
@click.option("--allow-peer", multiple=True, help="Address or network that may call, such as 10.1.0.0/16; repeat.")
@click.option("--tls-cert", "certificate", type=_PEM, help="Certificate, PEM: then TLS is spoken.")
@click.option("--tls-key", "private_key", type=_PEM, help="Its key, PEM.")
@click.option("--tls-ca", "authority", type=_PEM, help="Who signs the certificates of callers: then each needs one.")
@click.option("--associations", default=8, show_default=True, type=click.IntRange(1, 256), help="At a time.")
@click.option("--instance-bytes", default=2 << 30, show_default=True, type=click.IntRange(min=1), help="Largest one.")
@click.option("--quiet", "quiet_s", default=30.0, show_default=True, type=click.FloatRange(min=0.1),
              help="Seconds without a new instance after which a series is taken in.")  # fmt: skip
@click.option("--send-to", metavar="AET@HOST:PORT", help="Store the label maps there, with the identity of the study.")
@click.pass_obj
def receive(
    shell: Shell, /, dataset: str, subject: str, recipe: str, quiet_s: float, send_to: str | None, **listening: Any
) -> None:
    """Take what scanners and archives send (C-STORE), until stopped.

    An instance is on this disk before it is answered that it is stored. A series that has been quiet for a while goes
    through the intake as an upload does: cleaned, held, or refused with the reason.
    """
    from voxelight.app.hospital.inbox import Inbox, Wishes, only_one
    from voxelight.app.hospital.receiver import Listening, receiving, refuse_open
    from voxelight.app.hospital.sending import read_peer
    from voxelight.models.errors import BadInput

    options = Listening(**listening)
    refuse_open(options)
    if send_to and not recipe:
        raise BadInput("--send-to without --recipe", "both", "Say by which recipe there is something to send.")
    shell.services.datasets.show(dataset)
    wishes = Wishes(dataset, subject, recipe, read_peer(send_to, options.aet) if send_to else None)
    folder = shell.settings.home / "inbox" / options.aet
    with stopping() as stop, only_one(folder, f"receives as {options.aet}"):
        inbox = Inbox(shell.services, folder, wishes, shell.note)
        with receiving(inbox, options) as port:
            shell.note(f"{options.aet} takes instances at {options.host}:{port} (Ctrl-C stops)")
            while not stop.wait(LOOK_S):
                inbox.step(quiet_s)
    shell.note(f"{options.aet} stopped")


@click.command("query", cls=Verb)
@click.option("--url", default="", help="Address of the archive; else that of the settings.")
@click.option("--level", type=click.Choice(["studies", "series"]), default="studies", show_default=True, help="What.")
@click.option("--patient", help="Number of a patient.")
@click.option("--date", help="Of the study: 20240131, or a range 20240101-20240131.")
@click.option("--modality", help="MR, CT, ...")
@click.option("--accession", help="Accession number.")
@click.option("--study", help="UID of a study.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000), help="Rows.")
@click.pass_obj
def query(shell: Shell, /, url: str, level: str, limit: int, **filters: str | None) -> None:
    """Ask an archive what it has (QIDO-RS). The answer names patients; nothing of it is stored."""
    from voxelight.app.cli.tables import make_table
    from voxelight.app.hospital.dicomweb import Archive

    asked = {_FILTERS[name]: value for name, value in filters.items() if value}
    if level == "studies" and "Modality" in asked:
        asked["ModalitiesInStudy"] = asked.pop("Modality")
    found = Archive(shell.settings, url).query(level, asked, limit)
    columns = [name for name in found[0] if any(row[name] for row in found)] if found else []
    rows = ([row[name] for name in columns] for row in found)
    shell.answer([ArchiveRow(facts=row) for row in found], make_table(columns, rows))


@click.command("retrieve", cls=Verb)
@click.argument("study", metavar="STUDY_UID")
@click.argument("series", metavar="[SERIES_UID]", required=False, default="")
@where
@click.option("--url", default="", help="Address of the archive; else that of the settings.")
@click.pass_obj
def retrieve(shell: Shell, /, study: str, series: str, url: str, **wishes: Any) -> None:
    """Fetch a study, or one series of it, from an archive (WADO-RS), and take it in."""
    from voxelight.app.cli.tables import show_scans
    from voxelight.app.hospital.dicomweb import Archive
    from voxelight.app.hospital.inbox import Inbox, Wishes

    archive = Archive(shell.settings, url)
    shell.services.datasets.show(wishes["dataset"])
    folder = shell.settings.home / "inbox" / f"retrieve-{uuid.uuid4().hex[:12]}"
    inbox = Inbox(shell.services, folder, Wishes(**wishes), shell.note)
    archive.retrieve(inbox, study, series)
    _answer(shell, inbox, show_scans)


@click.command("store", cls=Verb)
@click.argument("target", metavar="JOB_OR_RESULT", type=click.UUID)
@click.option("--url", default="", help="Address of the archive; else that of the settings.")
@click.option("--author", required=True, help="Who sends; it is kept in the log of the job.")
@click.option("--reason", required=True, help="Why; it is kept.")
@click.pass_obj
def store(shell: Shell, /, target: uuid.UUID, url: str, author: str, reason: str) -> None:
    """Store label maps in an archive (STOW-RS) as DICOM-SEG that belong to their studies again. They name the patient.

    Needs identity.key in the home folder.
    """
    from voxelight.app.hospital.dicomweb import Archive

    archive, privacy = Archive(shell.settings, url), shell.services.privacy
    request = ask(RelinkRequest, author=author, reason=reason, key=privacy.read_key())
    with tempfile.TemporaryDirectory(dir=shell.settings.spool) as folder:
        files = privacy.relink_all(target, request, Path(folder))
        count = archive.store(files) if files else 0
    shell.answer(CountAnswer(count=count), f"{count} label maps stored in the archive. Not for clinical use.")


def _answer(shell: Shell, inbox: "Inbox", show: Callable[..., Any]) -> None:
    """Take in all that came, and say what it became."""
    from voxelight.app.errors import find_answer
    from voxelight.models.errors import BadInput

    folders = sorted(inbox.series.iterdir())
    found = [inbox.handle(folder) for folder in folders]
    scans = [scan for each in found for scan in each]
    shell.answer(scans, *([show(scans)] if scans else []))
    if not all(found):
        raise click.exceptions.Exit(find_answer(BadInput("", "", ""))[1])
