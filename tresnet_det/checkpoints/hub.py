"""timm's weights from the Hugging Face hub: ``timm://NAME``."""

from ..errors import InputError

HUB_PREFIX = 'timm://'


def download(name: str) -> str:
    """Return where the hub's cache has the weights of ``timm://NAME``.

    Raises:
        InputError: If its package is not installed, or the hub cannot be reached or has no such
            name.
    """
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise InputError(
            f'{name} needs huggingface_hub and safetensors: pip install "tresnet-det[hub]"'
        ) from error
    try:
        return hf_hub_download(f'timm/{name.removeprefix(HUB_PREFIX)}', 'model.safetensors')
    except Exception as error:  # the hub's errors are of many kinds: no network, no such name, ...
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f'cannot get {name} from the hub: {reason}') from None
