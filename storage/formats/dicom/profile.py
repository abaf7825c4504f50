"""What becomes of each attribute of a DICOM header: rules, and the tables that they go by.

The Basic Application Level Confidentiality Profile (PS3.15, table E.1-1) with two of its options: dates are shifted and
not removed (113107), and descriptions keep the words that name how was measured (113105). Where the table names what
must go, the rules here name what of free text may stay: text that nobody thought of goes too.
"""

from typing import Final

_TEXT: Final = {"LO", "SH", "LT", "ST", "UT", "UC", "UR"}

KEPT_TEXT = frozenset(
    word
    for line in (
        # how it was measured
        "Manufacturer ManufacturerModelName SoftwareVersions SequenceName PulseSequenceName ImagedNucleus FilterType",
        "ConvolutionKernel ReceiveCoilName TransmitCoilName ReceiveCoilManufacturerName TransmitCoilManufacturerName",
        "MultiCoilElementName AcquisitionMode ContrastBolusRoute Radionuclide AttenuationCorrectionMethod",
        "ReconstructionMethod ScatterCorrectionMethod ImageFilter TypeOfFilters TriggerSourceOrType CardiacFramingType",
        # what its numbers mean
        "RescaleType ModalityLUTType LUTLabel DimensionDescriptionLabel StackID WindowCenterWidthExplanation",
        # codes
        "CodeValue LongCodeValue URNCodeValue CodeMeaning CodingSchemeDesignator CodingSchemeVersion",
        "MappingResourceName",
        # what this program writes itself
        "DeidentificationMethod",
    )
    for word in line.split()
)
"""Free text that stays."""

CLEANED_TEXT = frozenset(("StudyDescription", "SeriesDescription", "ProtocolName", "AcquisitionProtocolName"))
"""Descriptions of which the known words stay."""

EMPTIED = frozenset(
    (
        "AccessionNumber",
        "ContentCreatorName",
        "PatientBirthDate",
        "PatientSex",
        "PositionReferenceIndicator",
        "ReferringPhysicianName",
        "StudyID",
    )
)
"""What must be there and may be empty (type 2)."""

REMOVED = frozenset(
    word
    for line in (
        # the person
        "PatientAge PatientSize PatientWeight PatientBodyMassIndex PatientBirthTime PregnancyStatus SmokingStatus",
        "PatientSexNeutered LastMenstrualDate PatientDeathDateInAlternativeCalendar OtherPatientIDsSequence",
        "PatientsPrimaryLanguageCodeSequence PatientInsurancePlanCodeSequence PatientSpeciesCodeSequence",
        "PatientBreedCodeSequence ResponsiblePersonRole QualityControlSubject AdditionalPatientHistory",
        # who did it, where and on whose order
        "InstitutionCodeSequence InstitutionalDepartmentTypeCodeSequence PersonIdentificationCodeSequence",
        "ReferringPhysicianIdentificationSequence PhysiciansOfRecordIdentificationSequence TimezoneOffsetFromUTC",
        "PerformingPhysicianIdentificationSequence OperatorIdentificationSequence IssuerOfAccessionNumberSequence",
        "PhysiciansReadingStudyIdentificationSequence RequestAttributesSequence RequestingServiceCodeSequence",
        "ReferencedPatientSequence ReferencedStudySequence ReferencedPerformedProcedureStepSequence",
        "ReferencedRequestSequence PerformedProtocolCodeSequence ScheduledProtocolCodeSequence",
        "AdmittingDiagnosesCodeSequence ReasonForRequestedProcedureCodeSequence PerformedProcedureStepStartTime",
        "PerformedProcedureStepEndTime AuthorObserverSequence ParticipantSequence CustodialOrganizationSequence",
        "ContributingEquipmentSequence ActualHumanPerformersSequence ContentCreatorIdentificationCodeSequence",
        # copies of all this
        "OriginalAttributesSequence EncryptedAttributesSequence ModifiedAttributesSequence IconImageSequence",
        "GraphicAnnotationSequence DigitalSignaturesSequence MACParametersSequence ConceptualVolumeConstituentSequence",
        "ContentSequence AcquisitionContextSequence ReferencedRawDataSequence DataSetTrailingPadding",
    )
    for word in line.split()
)
"""What goes whatever is in it: attributes that are no free text, and sequences with all they hold."""

KEPT_UIDS = frozenset(
    word
    for line in (
        "SOPClassUID MediaStorageSOPClassUID ReferencedSOPClassUID TransferSyntaxUID CodingSchemeUID ContextUID",
        "MappingResourceUID ContextGroupExtensionCreatorUID RelatedGeneralSOPClassUID",
        "OriginalSpecializedSOPClassUID",
    )
    for word in line.split()
)
"""UIDs that name a kind of thing and not a thing."""

STANDARD_ROOT = "1.2.840.10008."
"""UIDs of the standard itself name no thing either."""

PATIENT_LEVEL = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyDescription",
)
"""What a result needs to be filed beside its study again; sealed in the identity link."""


KEPT_BYTES = ("PixelData", "LookupTableData", "LUTData", "OffsetTable", "OffsetTableLengths", "ICCProfile")
"""How the names of attributes end whose bytes stay: voxels, tables of grey values and where frames begin."""


def is_text(vr: str) -> bool:
    """Whether an attribute holds text that somebody may have typed."""
    return vr in _TEXT


def is_overlay_or_curve(group: int) -> bool:
    """Whether a group holds drawings, which may be writing: curves (50xx) and overlays (60xx)."""
    return group & 0xFF00 in (0x5000, 0x6000) and group % 2 == 0
