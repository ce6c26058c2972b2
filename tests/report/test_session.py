import pytest
import torch

from resnet_gp.report.session import SessionError, find_device, make_folder


def test_devices():
    assert find_device("cpu") == torch.device("cpu")
    assert find_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("cuda:99", "tpu", "meta"):
        with pytest.raises(SessionError, match=name) as error:
            find_device(name)
        assert error.value.option == "--device"


def test_a_folder_that_cannot_be_written(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(SessionError, match="cannot write to") as error:
        make_folder(file / "out")
    assert error.value.option == "--out"
