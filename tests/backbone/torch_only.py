"""What a user does where torch is all that is installed; run by test_torch_only.py.

    python torch_only.py CLONE WEIGHTS TRAINING IMAGES OUT

It writes what it saw to OUT: by name, tensors, lists of names and messages.
"""

import contextlib
import io
import runpy
import sys

import torch

torchs_own = set(sys.modules)
import tresnet_det.backbone  # noqa: E402

imported = set(sys.modules) - torchs_own
clone, weights, training, images, out = sys.argv[1:]


def message_of(use):
    """The class and the text of the exception that a use of the package ends with."""
    try:
        use()
    except Exception as error:
        return type(error).__name__, str(error)
    return None


def tool(start, *arguments):
    """The exit status and stderr of a tool that ``start`` starts."""
    sys.argv = ['tool', *arguments]
    with contextlib.redirect_stderr(io.StringIO()) as stderr:
        try:
            start()
        except SystemExit as error:
            return error.code, stderr.getvalue()
    return None


@torch.no_grad()
def main():
    x = torch.load(images)
    model = tresnet_det.backbone.tresnet_m(weights, num_classes=7).eval()
    maps = tresnet_det.backbone.tresnet_m(weights, features_only=True, out_indices=(1, 3)).eval()
    hub = torch.hub.load(clone, 'tresnet_m', source='local', pretrained=weights, num_classes=7)
    allowed_before = len(torch.serialization.get_safe_globals())
    checkpoint = tresnet_det.checkpoints.read_checkpoint(training)
    seen = dict(
        trained=dict(checkpoint.weights),
        classes=checkpoint.classes,
        allowed_before=allowed_before,
        allowed_after=len(torch.serialization.get_safe_globals()),
        file=tresnet_det.__file__,
        imported=sorted(imported),
        logits=model(x),
        feature_maps=maps(x),
        channels=maps.feature_info.channels(),
        reduction=maps.feature_info.reduction(),
        hub_logits=hub.eval()(x),
        names=[message_of(lambda n=n: getattr(tresnet_det, n)) for n in ('TResNet', 'Predictor')],
        no_such_name=message_of(lambda: tresnet_det.nothing),
        from_hub=message_of(lambda: tresnet_det.backbone.tresnet_m(True)),
        from_url=message_of(lambda: tresnet_det.backbone.tresnet_m('http://localhost/a.pth')),
        by_name=tool(lambda: runpy.run_module('tresnet_det', run_name='__main__'), 'train'),
        by_path=tool(lambda: runpy.run_path(f'{clone}/tools/test.py', run_name='__main__')),
    )
    torch.save(seen, out)


main()
