"""timm's weights from the Hugging Face hub: ``timm://NAME``."""

from ..errors import InputError

HUB_PREFIX = 'timm://'
FILE = 'model.safetensors'


def download(name: str) -> str:
    """Return where the hub's cache has the weights of ``timm://NAME``.

    Raises:
        InputError: If its package is not installed, or the hub cannot be reached or has no such
            name, or the name has no tag.
    """
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise InputError(
            f'{name} needs huggingface_hub and safetensors: pip install "tresnet-det[hub]"'
        ) from error
    model = name.removeprefix(HUB_PREFIX)
    if '.' not in model:
        raise InputError(f'{name} has no tag: {HUB_PREFIX}tresnet_m.miil_in1k is such a name')
    try:
        return hf_hub_download(f'timm/{model}', FILE)
    except Exception as error:  # the hub's errors are of many kinds: no network, no such name, ...
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].partition('. ')[0]
        raise InputError(
            f'cannot get {name} from the hub ({reason}); it is the file '
            f'https://huggingface.co/timm/{model}/resolve/main/{FILE}'
        ) from None
