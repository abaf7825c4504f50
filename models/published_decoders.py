"""The published files of MindEye1, of its generator, and of what linear decoders are fitted to."""

from voxelight.models.published_file import INFERRED, OPTIMISER, SUBJECTS, VOXELS, PartSizes, PublishedFile

_MINDEYE1 = "pscotti/naturalscenesdataset"
MINDEYE1 = [
    row
    for subject in SUBJECTS
    for row in (
        PublishedFile(
            f"prior_257_final_subj0{subject}_bimixco_softclip_byol",
            f"MindEye1 for subject {subject} of NSD: 257 tokens of CLIP ViT-L, with its prior",
            _MINDEYE1,
            f"mindeye_models/prior_257_final_subj0{subject}_bimixco_softclip_byol/last.pth",
            "mindeye1",
            "mindeye1",
            {"decoder": PartSizes("mindeye1", {"voxels": (VOXELS[subject],)})},
            dataset=True,
            note=INFERRED + OPTIMISER,
        ),
        PublishedFile(
            f"prior_1x768_final_subj0{subject}_bimixco_softclip_byol",
            f"MindEye1 for subject {subject} of NSD: one vector of CLIP ViT-L, to ask an index of pictures with",
            _MINDEYE1,
            f"mindeye_models/prior_1x768_final_subj0{subject}_bimixco_softclip_byol/last.pth",
            "mindeye1",
            "mindeye1-pooled",
            {"decoder": PartSizes("mindeye1", {"voxels": (VOXELS[subject],), "tokens": 1, "prior": None})},
            dataset=True,
            note=INFERRED + "Its name is inferred too. Its prior is another network and is left out. " + OPTIMISER,
        ),
        PublishedFile(
            f"autoencoder_subj0{subject}_4x_locont_no_reconst",
            f"Low-level branch of MindEye1 for subject {subject} of NSD: the latent of a blurry image",
            _MINDEYE1,
            f"mindeye_models/autoencoder_subj0{subject}_4x_locont_no_reconst/epoch120.pth",
            "mindeye1",
            "mindeye1-low-level",
            {"low_level": PartSizes("mindeye1-low-level", {"voxels": (VOXELS[subject],)})},
            dataset=True,
            note=INFERRED + OPTIMISER,
        ),
    )
]
VARIATION = [
    PublishedFile(
        "versatile-diffusion-image-unet",
        "Versatile Diffusion: its image UNet, for variations of an image",
        "shi-labs/versatile-diffusion",
        "image_unet/diffusion_pytorch_model.bin",
        "mit-versatile",
        "variation",
        {"variation": PartSizes("variation-unet")},
        size=3_400_000_000,
    ),
    PublishedFile(
        "versatile-diffusion-vae",
        "Versatile Diffusion: its autoencoder, Stable Diffusion's",
        "shi-labs/versatile-diffusion",
        "vae/diffusion_pytorch_model.bin",
        "mit-versatile",
        "sd-autoencoder",
        {"autoencoder": PartSizes("autoencoder", {"scale": 0.18215})},
        size=330_000_000,
    ),
    PublishedFile(
        "clip-vit-large-patch14-vision",
        "OpenAI CLIP ViT-L/14: its vision tower, which says which picture fits a brain",
        "openai/clip-vit-large-patch14",
        "model.safetensors",
        "mit-clip",
        "clip-vision",
        {"image_encoder": PartSizes("clip-vision")},
        size=1_700_000_000,
    ),
]
LINEAR = [
    PublishedFile(
        "git-base-coco",
        "GIT base, fine-tuned on COCO: captions from tokens (its image encoder is left out)",
        "microsoft/git-base-coco",
        "pytorch_model.bin",
        "mit-git",
        "git",
        {"captioner": PartSizes("git-captioner", {"tokens": 197, "dim_in": 768})},
        size=710_000_000,
        needs=("git-large-coco-vocabulary",),
        note="Its vocabulary is that of git-large-coco. model.safetensors of the same repository is read as well.",
    ),
    *(
        PublishedFile(
            f"git-{size}-coco-vision",
            f"GIT {size}: its vision tower, whose tokens linear decoders are fitted to",
            f"microsoft/git-{size}-coco",
            "pytorch_model.bin",
            "mit-git",
            "git-vision",
            {"target_encoder": PartSizes("git-vision", config)},
            size=bytes_of_file,
        )
        for size, config, bytes_of_file in (
            ("base", {}, 710_000_000),
            ("large", {"width": 1024, "layers": 24, "heads": 16, "mlp_width": 4096, "patch": 14}, 1_600_000_000),
        )
    ),
    PublishedFile(
        "versatile-diffusion-text-encoder",
        "Versatile Diffusion: its text encoder, whose tokens linear decoders are fitted to",
        "shi-labs/versatile-diffusion",
        "text_encoder/pytorch_model.bin",
        "mit-versatile",
        "clip-words",
        {"target_encoder": PartSizes("clip-words")},
        size=500_000_000,
    ),
]
